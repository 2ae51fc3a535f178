//! Compiles the protocol without protoc: protox reads the files, tonic-prost-build writes the code.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use prost::Message as _;

fn protos(dir: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            protos(&path, found)?;
        } else if path.extension().is_some_and(|e| e == "proto") {
            found.push(path);
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=quorate");
    let mut files = Vec::new();
    protos(Path::new("quorate"), &mut files)?;
    files.sort();

    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_imports(true).include_source_info(true);
    for file in &files {
        compiler.open_file(file)?;
    }
    // encode_file_descriptor_set keeps custom options; file_descriptor_set would drop them.
    let bytes = compiler.encode_file_descriptor_set();
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("descriptor.bin"), &bytes)?;

    let set = prost_types::FileDescriptorSet::decode(bytes.as_slice())?;
    tonic_prost_build::configure().emit_rerun_if_changed(false).btree_map(".").compile_fds(set)?;
    Ok(())
}
