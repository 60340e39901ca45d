//! A view gives no access to private fields.

use shm_sync::{Segment, project};

mod inner {
    #[derive(shm_sync::ShmSafe)]
    #[repr(C)]
    pub struct Account {
        pub number: u32,
        secret: u32,
    }
}

fn main() -> Result<(), shm_sync::Error> {
    let account = Segment::<inner::Account>::open_read_only("/account")?;
    println!("{}", project!(account.view() => number).get());
    println!("{}", project!(account.view() => secret).get());
    Ok(())
}
