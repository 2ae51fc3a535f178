//! Numbers with a fraction: floats on the wire where people read them, millionths everywhere else.

use quorate_model::Millionths;

use super::Invalid;

/// Largest size of a number in a specification.
const SIZE_MAX: f64 = 9.0e12;
/// From this size on only whole numbers are told apart: below it every millionth survives the way through a float and back.
const WHOLE_FROM: f64 = 2.0e9;

/// A number somebody wrote into a specification.
///
/// # Errors
/// [`Invalid`] when it is no number, or too large.
pub fn read_number(field: &str, number: f64) -> Result<Millionths, Invalid> {
    let wrong = || Invalid::new(field, "it must be a number from -9e12 to 9e12");
    if !(-SIZE_MAX..=SIZE_MAX).contains(&number) {
        return Err(wrong());
    }
    from_float(number).ok_or_else(wrong)
}

/// A float to the nearest millionth, a large one to the nearest whole number; `None` when it is no number, or does not fit.
#[must_use]
pub fn from_float(number: f64) -> Option<Millionths> {
    if number.abs() >= WHOLE_FROM {
        Millionths::whole(whole(number)?)
    } else {
        whole(number * 1e6).map(Millionths)
    }
}

fn whole(number: f64) -> Option<i64> {
    let nearest = number.round();
    // 2^63 as a float is exact; everything below it fits.
    let fits = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&nearest);
    #[expect(clippy::cast_possible_truncation, reason = "in range by the line above")]
    fits.then_some(nearest as i64)
}

/// As a float, to the nearest.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    reason = "nearest is what is asked for; `read_number` bounds what must come back"
)]
pub fn write_number(number: Millionths) -> f64 {
    number.0 as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_number_or_too_large_is_refused() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 9.1e12, -9.1e12] {
            assert!(read_number("x", bad).is_err(), "{bad}");
        }
        for bad in [f64::NAN, f64::INFINITY, 1e13, -1e300] {
            assert_eq!(from_float(bad), None, "{bad}");
        }
        assert_eq!(from_float(0.1), Some(Millionths(100_000)));
        assert_eq!(from_float(-0.000_000_4), Some(Millionths(0)));
    }

    proptest! {
        #[test]
        fn every_number_of_a_specification_comes_back(number in -9.0e12..9.0e12_f64, scale in 0..12) {
            let read = read_number("x", number / 10.0_f64.powi(scale)).unwrap();
            prop_assert_eq!(read_number("x", write_number(read)), Ok(read));
        }

        #[test]
        fn every_millionth_comes_back(millionths in -2_000_000_000_000_000_i64..=2_000_000_000_000_000) {
            prop_assert_eq!(read_number("x", write_number(Millionths(millionths))), Ok(Millionths(millionths)));
        }

        #[test]
        fn no_float_is_a_surprise(bits in any::<u64>()) {
            let number = f64::from_bits(bits);
            if let Some(found) = from_float(number) {
                let tolerance = if number.abs() < 2.0e9 { 0.000_001 } else { 0.5 };
                prop_assert!((write_number(found) - number).abs() <= tolerance);
            }
        }
    }
}
