//! iceoryx2: a publisher and a subscriber. The messages are copied into the shared
//! memory and out of it, as with the other contestants.
//!
//! A service is found by its name, and each process creates its node after the fork. No
//! message is discarded: a publisher waits while the buffer is full. A subscriber has
//! no call that waits for a message, so it polls, as in the benchmark of iceoryx2.
//!
//! iceoryx2 keeps some files when the last node has ended. Each channel has its own
//! directory and its own prefix of names, and removes what has these names.

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, hint};

use iceoryx2::config::Config;
use iceoryx2::port::backpressure_strategy::BackpressureStrategy;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::{
    FileName, LogLevel, NodeBuilder, Path, SemanticString, SignalHandlingMode, ipc, set_log_level,
};
use iceoryx2::service::port_factory::publish_subscribe::PortFactory;

use super::api::{CAPACITY, Channel, Receiver, Sender};
use crate::contestants::Scope;
use crate::failure::Failure;
use crate::series::Survives;

/// Where a service is. `drop` removes it.
pub(super) struct Iceoryx2 {
    /// The name of its directory, and the beginning of the names of its shared memory.
    name: String,
}

type Service<const LEN: usize> = PortFactory<ipc::Service, [u8; LEN], ()>;

/// A publisher. The service stays open as long as it.
pub(super) struct Publishes<const LEN: usize>(Publisher<ipc::Service, [u8; LEN], ()>);

/// A subscriber. The service stays open as long as it.
pub(super) struct Subscribes<const LEN: usize>(Subscriber<ipc::Service, [u8; LEN], ()>);

fn failed<E: Debug>(error: E) -> Failure {
    Failure::Unavailable(format!("iceoryx2: {error:?}"))
}

impl Iceoryx2 {
    fn directory(&self) -> PathBuf {
        env::temp_dir().join(&self.name)
    }

    fn open<const LEN: usize>(&self) -> Result<Service<LEN>, Failure> {
        set_log_level(LogLevel::Error);
        let mut config = Config::default();
        let directory = self.directory();
        let path = Path::new(directory.as_os_str().as_encoded_bytes()).map_err(failed)?;
        config.global.set_root_path(&path);
        config.global.prefix = FileName::new(self.name.as_bytes()).map_err(failed)?;
        let node = NodeBuilder::new()
            .config(&config)
            .signal_handling_mode(SignalHandlingMode::Disabled)
            .create::<ipc::Service>()
            .map_err(failed)?;
        let name = "messages".try_into().map_err(failed)?;
        node.service_builder(&name)
            .publish_subscribe::<[u8; LEN]>()
            .enable_safe_overflow(false)
            .subscriber_max_buffer_size(CAPACITY)
            .max_publishers(1)
            .max_subscribers(1)
            .open_or_create()
            .map_err(failed)
    }
}

impl<const LEN: usize> Channel<LEN> for Iceoryx2 {
    const NAME: &'static str = "iceoryx2";
    // A publisher that waits for room waits for a killed subscriber until a process has
    // removed the dead node.
    const SURVIVES: Survives = Survives::SomeKills;
    const SCOPE: Scope = Scope::Processes;

    type Sender<'a> = Publishes<LEN>;
    type Receiver<'a> = Subscribes<LEN>;

    fn create() -> Result<Self, Failure> {
        static CREATED: AtomicU32 = AtomicU32::new(0);
        let number = CREATED.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        Ok(Self {
            name: format!("shm-sync-bench-{pid}-{number}-"),
        })
    }

    fn sender(&self) -> Result<Publishes<LEN>, Failure> {
        let strategy = BackpressureStrategy::RetryUntilDelivered;
        let service = self.open()?;
        let publisher = service.publisher_builder().backpressure_strategy(strategy);
        Ok(Publishes(publisher.create().map_err(failed)?))
    }

    fn receiver(&self) -> Result<Subscribes<LEN>, Failure> {
        let service = self.open()?;
        Ok(Subscribes(
            service.subscriber_builder().create().map_err(failed)?,
        ))
    }
}

impl Drop for Iceoryx2 {
    fn drop(&mut self) {
        // Forked workers exit without destructors, so only the creator removes them.
        let _ = fs::remove_dir_all(self.directory());
        for entry in fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name.as_encoded_bytes().starts_with(self.name.as_bytes()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

impl<const LEN: usize> Sender<LEN> for Publishes<LEN> {
    #[inline]
    fn send(&mut self, message: &[u8; LEN]) -> Result<(), Failure> {
        // The subscriber may not have noticed the publisher yet. Then the publisher
        // fills its buffer and sends the next message to no subscriber.
        loop {
            let mut sample = self.0.loan_uninit().map_err(failed)?;
            sample.payload_mut().write(*message);
            // SAFETY: the payload has just been written.
            let sample = unsafe { sample.assume_init() };
            if sample.send().map_err(failed)? != 0 {
                return Ok(());
            }
        }
    }
}

impl<const LEN: usize> Receiver<LEN> for Subscribes<LEN> {
    #[inline]
    fn receive(&mut self, message: &mut [u8; LEN]) -> Result<(), Failure> {
        loop {
            if let Some(sample) = self.0.receive().map_err(failed)? {
                *message = *sample.payload();
                return Ok(());
            }
            hint::spin_loop();
        }
    }
}
