//! A serde serializer that feeds sha256 instead of a buffer.

use core::fmt;

use serde::ser::{self, Serialize};

use super::{Hash, Hasher};

/// sha256 over the canonical encoding of a value.
#[must_use]
pub fn canonical<T: Serialize + ?Sized>(value: &T) -> Hash {
    let mut hasher = Hasher::new("quorate canonical 1");
    // Our types only fail to serialize by a custom impl that refuses, and none does; a refusal still gives a hash of its own.
    if value.serialize(Feed(&mut hasher)).is_err() {
        hasher.text("refused");
    }
    hasher.finish()
}

/// What cannot be fed.
#[derive(Debug)]
pub(super) struct Unfit;

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("value has no canonical encoding")
    }
}

impl core::error::Error for Unfit {}

impl ser::Error for Unfit {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

struct Feed<'a>(&'a mut Hasher);

impl Feed<'_> {
    fn tag(&mut self, tag: u8) {
        self.0.raw(&[tag]);
    }

    fn length(&mut self, length: usize) {
        self.0.raw(&u64::try_from(length).unwrap_or(u64::MAX).to_be_bytes());
    }
}

macro_rules! integers {
    ($($method:ident $kind:ty, $wide:ty, $tag:literal;)+) => { $(
        fn $method(mut self, v: $kind) -> Result<(), Unfit> {
            self.tag($tag);
            self.0.raw(&<$wide>::from(v).to_be_bytes());
            Ok(())
        }
    )+ };
}

impl<'a> ser::Serializer for Feed<'a> {
    type Ok = ();
    type Error = Unfit;
    type SerializeSeq = Many<'a>;
    type SerializeTuple = Many<'a>;
    type SerializeTupleStruct = Many<'a>;
    type SerializeTupleVariant = Many<'a>;
    type SerializeMap = Many<'a>;
    type SerializeStruct = Many<'a>;
    type SerializeStructVariant = Many<'a>;

    integers! {
        serialize_i8 i8, i64, b'i';
        serialize_i16 i16, i64, b'i';
        serialize_i32 i32, i64, b'i';
        serialize_i64 i64, i64, b'i';
        serialize_u8 u8, u64, b'u';
        serialize_u16 u16, u64, b'u';
        serialize_u32 u32, u64, b'u';
        serialize_u64 u64, u64, b'u';
        serialize_char char, u32, b'c';
    }

    fn serialize_bool(mut self, v: bool) -> Result<(), Unfit> {
        self.tag(b'b');
        self.0.raw(&[u8::from(v)]);
        Ok(())
    }

    fn serialize_f32(self, _: f32) -> Result<(), Unfit> {
        Err(Unfit)
    }

    fn serialize_f64(self, _: f64) -> Result<(), Unfit> {
        Err(Unfit)
    }

    fn serialize_str(mut self, v: &str) -> Result<(), Unfit> {
        self.tag(b's');
        self.0.text(v);
        Ok(())
    }

    fn serialize_bytes(mut self, v: &[u8]) -> Result<(), Unfit> {
        self.tag(b'y');
        self.0.bytes(v);
        Ok(())
    }

    fn serialize_none(mut self) -> Result<(), Unfit> {
        self.tag(b'0');
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(mut self, value: &T) -> Result<(), Unfit> {
        self.tag(b'1');
        value.serialize(self)
    }

    fn serialize_unit(mut self) -> Result<(), Unfit> {
        self.tag(b'n');
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Unfit> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(mut self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Unfit> {
        self.tag(b'v');
        self.0.text(variant);
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Unfit> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        mut self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Unfit> {
        self.tag(b'w');
        self.0.text(variant);
        value.serialize(self)
    }

    fn serialize_seq(mut self, len: Option<usize>) -> Result<Many<'a>, Unfit> {
        self.tag(b'l');
        self.length(len.ok_or(Unfit)?);
        Ok(Many(self.0))
    }

    fn serialize_tuple(self, len: usize) -> Result<Many<'a>, Unfit> {
        self.serialize_seq(Some(len))
    }

    fn serialize_tuple_struct(self, _: &'static str, len: usize) -> Result<Many<'a>, Unfit> {
        self.serialize_seq(Some(len))
    }

    fn serialize_tuple_variant(
        mut self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Many<'a>, Unfit> {
        self.tag(b't');
        self.0.text(variant);
        self.length(len);
        Ok(Many(self.0))
    }

    fn serialize_map(mut self, len: Option<usize>) -> Result<Many<'a>, Unfit> {
        self.tag(b'm');
        self.length(len.ok_or(Unfit)?);
        Ok(Many(self.0))
    }

    fn serialize_struct(mut self, _: &'static str, len: usize) -> Result<Many<'a>, Unfit> {
        self.tag(b'r');
        self.length(len);
        Ok(Many(self.0))
    }

    fn serialize_struct_variant(
        mut self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Many<'a>, Unfit> {
        self.tag(b'q');
        self.0.text(variant);
        self.length(len);
        Ok(Many(self.0))
    }
}

struct Many<'a>(&'a mut Hasher);

impl Many<'_> {
    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unfit> {
        value.serialize(Feed(self.0))
    }
}

macro_rules! listed {
    ($($kind:ident $method:ident;)+) => { $(
        impl ser::$kind for Many<'_> {
            type Ok = ();
            type Error = Unfit;
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unfit> { self.item(value) }
            fn end(self) -> Result<(), Unfit> { Ok(()) }
        }
    )+ };
}

listed! {
    SerializeSeq serialize_element;
    SerializeTuple serialize_element;
    SerializeTupleStruct serialize_field;
    SerializeTupleVariant serialize_field;
}

macro_rules! fielded {
    ($($kind:ident;)+) => { $(
        impl ser::$kind for Many<'_> {
            type Ok = ();
            type Error = Unfit;
            fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Unfit> {
                self.0.text(key);
                self.item(value)
            }
            fn end(self) -> Result<(), Unfit> { Ok(()) }
        }
    )+ };
}

fielded! {
    SerializeStruct;
    SerializeStructVariant;
}

impl ser::SerializeMap for Many<'_> {
    type Ok = ();
    type Error = Unfit;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Unfit> {
        self.item(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unfit> {
        self.item(value)
    }

    fn end(self) -> Result<(), Unfit> {
        Ok(())
    }
}
