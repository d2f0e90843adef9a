//! The promises that every driver keeps, kept by this one.

antiphon_udp::conformance_tests!(antiphon_runtime_smol::spawn);
