//! The proof of shm-sync: the soak, and models of the protocols.
//!
//! | where | what |
//! |---|---|
//! | `src/bin/soak/` | many processes use the same locks and segments while they are killed |
//! | `tests/models/` | the protocols as models, of which every state is visited |
//! | [`results`] | writes what both measure as Markdown |

pub mod results;
