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

/// The paths of all methods as a constant: whoever keeps a table of methods can hold it to them while it compiles.
fn methods(set: &prost_types::FileDescriptorSet) -> String {
    let mut paths: Vec<String> = set
        .file
        .iter()
        .flat_map(|file| file.service.iter().map(move |service| (file.package(), service)))
        .flat_map(|(package, service)| {
            service
                .method
                .iter()
                .map(move |method| format!("/{package}.{}/{}", service.name(), method.name()))
        })
        .collect();
    paths.sort();
    format!(
        "/// Path (`/package.Service/Method`) of every method of every service, in order.\n\
         pub const METHODS: &[&str] = &{paths:?};\n"
    )
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
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("methods.rs"), methods(&set))?;
    tonic_prost_build::configure().emit_rerun_if_changed(false).btree_map(".").compile_fds(set)?;
    Ok(())
}
