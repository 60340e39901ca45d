//! A view borrows from the mapping.

use shm_sync::{Segment, project};

fn main() -> Result<(), shm_sync::Error> {
    let pair = Segment::<(u32, u64)>::open_read_only("/pair")?;
    let second = project!(pair.view() => 1).get();
    drop(pair);
    println!("{second}");
    Ok(())
}
