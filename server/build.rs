//! Makes Rust of the protocol that programs speak. No `protoc` is needed.

fn main() {
    println!("cargo::rerun-if-changed=proto");
    #[cfg(feature = "grpc")]
    {
        let files = protox::compile(["proto/antiphon/voice/v1/voice.proto"], ["proto"])
            .expect("the protocol's definition is well-formed");
        tonic_prost_build::configure()
            .bytes(".")
            .compile_fds(files)
            .expect("the folder for generated code can be written");
    }
}
