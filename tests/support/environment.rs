//! Variables by which a run of the tests is sized.

/// A number that whoever runs the tests may set.
pub fn number_from_env(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    match text.parse() {
        Ok(number) => Some(number),
        Err(error) => panic!("{variable}={text}: {error}"),
    }
}
