//! Nothing of its own: properties across the modules of Antiphon stand in `tests`, a search for seeds in
//! `examples`.
