//! The way from a device's first sight to its end.
#![forbid(unsafe_code)]

use core::{fmt, pin::pin, time::Duration};

use futures_util::future::{Either, select};
use kexec::{
    irql::Dispatch,
    shielded,
    time::{sleep, timeout},
    until_cancelled,
};
use xen_abi::io::xenbus::XenbusState;

use super::{
    Device, Failure, Frontend, HANDSHAKE, Leave, News, Phase, Step, Why, complain, device::Followed,
};
use crate::{
    bus::Bus,
    store::{Root, StoreError},
};

/// How a device's life has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The device is not there any more, or is to go.
    Gone,
    /// The task was cancelled: its driver is to end.
    Stopped,
}

/// The first pause before a connection is tried again, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// Serves the device in this directory, such as `device/vif/0`, until it goes, or the task is
/// [cancelled](kexec::until_cancelled).
///
/// When the task is cancelled it closes the connection in good order, which takes a few times [`HANDSHAKE`] at most;
/// only then it ends.
///
/// **Cancel-safe:** a future that is dropped instead leaves the backend connected to rings that are gone. It finds
/// that out when the next driver closes them.
pub async fn serve<F: Frontend>(at: &Dispatch, bus: &F::Bus, directory: &str, frontend: &mut F) -> End {
    let mut life = Life { at, bus, directory, frontend, connection: None, pause: PAUSES.0 };
    shielded(async {
        loop {
            let epoch = bus.epochs().now();
            let next = {
                // A turn that fails because of a suspend has not failed.
                let (suspended, turn) = (pin!(bus.epochs().after(at, epoch)), pin!(life.turn()));
                match until_cancelled(select(suspended, turn)).await {
                    Ok(Either::Left(_)) => Turn::Suspended,
                    Ok(Either::Right((turn, _))) => turn,
                    Err(_) => Turn::Stopped,
                }
            };
            match next {
                Turn::Again => {}
                Turn::Gone => return End::Gone,
                Turn::Suspended => life.disconnect(Why::Suspended),
                Turn::Stopped => {
                    life.stop().await;
                    return End::Stopped;
                }
            }
        }
    })
    .await
}

struct Life<'l, F: Frontend> {
    at: &'l Dispatch,
    bus: &'l F::Bus,
    directory: &'l str,
    frontend: &'l mut F,
    /// There from the moment in which it is made, to that in which nobody else can have any of it.
    connection: Option<F::Connection>,
    pause: Duration,
}

type Half<'l, F> = Followed<'l, <<<F as Frontend>::Bus as Bus>::Store as Root>::Watch<'l>>;

/// How a turn has ended.
enum Turn {
    Again,
    /// The device is not there any more.
    Gone,
    /// It was ended by a suspend.
    Suspended,
    /// It was cancelled.
    Stopped,
}

/// How a connection was left.
enum Left {
    /// It is to be closed, in good order.
    ToClose,
    /// There is nobody to close it with.
    Lost,
}

impl<'l, F: Frontend> Life<'l, F> {
    /// From the first look at the backend to the end of a connection with it, and what is left of that.
    async fn turn(&mut self) -> Turn {
        match self.connect_and_run().await {
            Ok(turn) => turn,
            Err(failure) => {
                self.frontend.told(News::Failed(failure));
                self.fail(failure).await
            }
        }
    }

    async fn connect_and_run(&mut self) -> Result<Turn, Failure<F::Error>> {
        let Self { at, bus, directory, .. } = *self;
        let store = bus.store();
        let Some(device) = Device::find(at, store, directory).await? else { return Ok(Turn::Gone) };
        let mut half = Followed::new(at, store, &device).await?;

        // Somebody may have been here before, and never have said goodbye.
        let mut step = half.now(at, store, Phase::Waits).await?;
        if matches!(step, Step::Wait | Step::GoOn) {
            device.say(at, store, XenbusState::Initialising).await?;
            self.frontend.told(News::Waits);
            step = loop {
                match timeout(PAUSES.1, half.until(at, store, Phase::Waits)).await {
                    Ok(step) => break step?,
                    // Who takes the device away, or gives it another backend, need not say so in the directory of
                    // this one.
                    Err(_) => match Device::find(at, store, directory).await? {
                        None => return Ok(Turn::Gone),
                        Some(found) if found != device => return Ok(Turn::Again),
                        Some(_) => {}
                    },
                }
            };
        }
        match step {
            Step::GoOn => {}
            Step::End => {
                device.say(at, store, XenbusState::Closed).await?;
                return Ok(Turn::Gone);
            }
            Step::Close | Step::Leave | Step::Lost | Step::Wait => {
                self.close(&mut half).await?;
                return Ok(Turn::Again);
            }
        }

        let connection = self.frontend.negotiate(at, bus, &device).await.map_err(Failure::Frontend)?;
        let connection = self.connection.insert(connection);
        let frontend = &*self.frontend;
        let published = store.transaction(at, async |store| {
            frontend.publish(connection, at, store, &device).await?;
            device.say(at, store, F::PUBLISHED).await
        });
        published.await.map_err(Failure::Publish)?;
        let left = match timeout(HANDSHAKE, half.until(at, store, Phase::Offers)).await {
            Err(_) => return Err(Failure::Silent(Phase::Offers, HANDSHAKE)),
            Ok(step) => match step? {
                Step::GoOn => self.run(&mut half).await?,
                Step::Close | Step::Leave => Left::ToClose,
                Step::Lost | Step::Wait | Step::End => Left::Lost,
            },
        };
        match left {
            Left::ToClose => self.close(&mut half).await?,
            // The next turn says what this half is then, if the device is there at all.
            Left::Lost => self.disconnect(Why::Lost),
        }
        Ok(Turn::Again)
    }

    /// Runs a connection, until either half wants to end it or cannot go on.
    async fn run(&mut self, half: &mut Half<'l, F>) -> Result<Left, Failure<F::Error>> {
        let Self { at, bus, .. } = *self;
        let store = bus.store();
        let Some(connection) = &mut self.connection else { return Ok(Left::Lost) };
        let device = half.device;
        self.frontend.connected(connection, at, bus, &device).await.map_err(Failure::Frontend)?;
        if F::PUBLISHED != XenbusState::Connected {
            device.say(at, store, XenbusState::Connected).await?;
        }
        self.pause = PAUSES.0;
        self.frontend.told(News::Connected);
        let mut phase = Phase::Runs;
        loop {
            let step = {
                let runs = pin!(self.frontend.run(connection, at, bus, &device));
                match select(runs, pin!(half.until(at, store, phase))).await {
                    Either::Left((failed, _)) => return Err(Failure::Frontend(failed)),
                    Either::Right((step, _)) => step?,
                }
            };
            match step {
                Step::Close => break,
                Step::Leave => match self.frontend.wanted_back() {
                    Leave::AtOnce => break,
                    Leave::WhenStopped => phase = Phase::Stays,
                },
                Step::Wait | Step::GoOn | Step::Lost | Step::End => return Ok(Left::Lost),
            }
        }
        // What does not come in time does not come at all.
        let _ = timeout(HANDSHAKE, self.frontend.finish(connection, at, bus, &device)).await;
        Ok(Left::ToClose)
    }

    /// Closes the connection, if there is one, and this half of the device: when it ends well, the backend has let go.
    async fn close(&mut self, half: &mut Half<'l, F>) -> Result<(), Failure<F::Error>> {
        let Self { at, bus, .. } = *self;
        let store = bus.store();
        let mut why = Why::Closed;
        for (state, phase) in [(XenbusState::Closing, Phase::Closes), (XenbusState::Closed, Phase::LetsGo)] {
            half.device.say(at, store, state).await?;
            if let Ok(step) = timeout(HANDSHAKE, half.until(at, store, phase)).await {
                step?;
            } else {
                why = Why::Lost;
                self.frontend.told(News::Failed(Failure::Silent(phase, HANDSHAKE)));
            }
        }
        self.disconnect(why);
        Ok(())
    }

    /// Closes what could not go on, and waits until it is worth another try.
    async fn fail(&mut self, failure: Failure<F::Error>) -> Turn {
        let closed = self.close_anew(Some(failure)).await;
        if self.connection.is_some() {
            // Nobody can be told; what the backend has still mapped is anybody's guess.
            self.disconnect(Why::Lost);
        }
        match closed {
            Ok(None) => return Turn::Gone,
            Ok(Some(_)) | Err(_) if failure.is_broken() => {
                return self.until_another().await;
            }
            Ok(Some(_)) | Err(_) => {}
        }
        sleep(self.pause).await;
        self.pause = self.pause.saturating_mul(2).min(PAUSES.1);
        Turn::Again
    }

    /// It is over with this backend, whatever it says: until it is gone, or the device has another, or nobody wants
    /// the device.
    async fn until_another(&self) -> Turn {
        let Self { at, bus, directory, .. } = *self;
        let store = bus.store();
        let mut broken = None;
        let mut look = async || -> Result<Option<Turn>, StoreError> {
            let Some(device) = Device::find(at, store, directory).await? else { return Ok(Some(Turn::Gone)) };
            if device != *broken.get_or_insert(device) {
                return Ok(Some(Turn::Again));
            }
            let mut half = Followed::new(at, store, &device).await?;
            let gone = timeout(PAUSES.1, half.until_gone(at, store)).await;
            gone.map_or(Ok(None), |gone| gone.map(|()| Some(Turn::Gone)))
        };
        loop {
            match look().await {
                Ok(Some(turn)) => return turn,
                Ok(None) => {}
                Err(_) => sleep(PAUSES.1).await,
            }
        }
    }

    /// The driver is to end: closes the connection, if there is one, in good order.
    async fn stop(&mut self) {
        if let Some(connection) = &mut self.connection
            && let Ok(Some(device)) = Device::find(self.at, self.bus.store(), self.directory).await
        {
            let finished = self.frontend.finish(connection, self.at, self.bus, &device);
            let _ = timeout(HANDSHAKE, finished).await;
        }
        let _ = self.close_anew(None).await;
        self.disconnect(Why::Lost);
    }

    /// Closes the device with another look at it, after a turn that was not gone to its end; none, if the device is
    /// not there any more.
    async fn close_anew(
        &mut self,
        failure: Option<Failure<F::Error>>,
    ) -> Result<Option<Half<'l, F>>, Failure<F::Error>> {
        let Self { at, bus, directory, .. } = *self;
        let store = bus.store();
        let Some(device) = Device::find(at, store, directory).await? else { return Ok(None) };
        if let Some(failure) = failure.filter(Failure::is_broken) {
            complain(at, store, directory, &failure).await;
        }
        let mut half = Followed::new(at, store, &device).await?;
        self.close(&mut half).await?;
        Ok(Some(half))
    }

    /// Takes the connection apart, if there is one.
    fn disconnect(&mut self, why: Why) {
        if let Some(connection) = self.connection.take() {
            self.frontend.disconnected(self.at, connection, why);
            self.frontend.told(News::Disconnected(why));
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gone => "the device is gone",
            Self::Stopped => "stopped by its driver",
        })
    }
}
