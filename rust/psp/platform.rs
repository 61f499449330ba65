// SPDX-License-Identifier: GPL-2.0

//! Platform states, and which state allows which command (`SEV-API` 5.1, table 4).

/// State of the SEV platform. Truth lives in the firmware: ask with PLATFORM_STATUS when it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlatformState {
    /// Nothing is set up; where a PSP starts and where SHUTDOWN leads.
    Uninit = 0,
    /// INIT was done, no guest exists.
    Init = 1,
    /// At least one guest exists.
    Working = 2,
}

impl TryFrom<u8> for PlatformState {
    /// The byte that is none of the three.
    type Error = u8;

    fn try_from(raw: u8) -> Result<Self, u8> {
        match raw {
            0 => Ok(PlatformState::Uninit),
            1 => Ok(PlatformState::Init),
            2 => Ok(PlatformState::Working),
            other => Err(other),
        }
    }
}

/// Set of platform states in which the firmware takes a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct States(u8);

impl States {
    /// Any state.
    pub const ANY: States = States(0b111);
    /// Only before INIT.
    pub const UNINIT: States = States(0b001);
    /// Only between INIT and the first guest.
    pub const INIT: States = States(0b010);
    /// After INIT, with or without guests.
    pub const INIT_WORKING: States = States(0b110);
    /// While no guest exists.
    pub const UNINIT_INIT: States = States(0b011);

    /// Whether `state` is in the set.
    pub const fn contains(self, state: PlatformState) -> bool {
        // CAST: the discriminants are 0, 1 and 2.
        self.0 & (1 << state as u8) != 0
    }
}

/// What has to happen before a command that needs an initialised platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prepare {
    /// The firmware takes the command as it is.
    Nothing,
    /// INIT first, SHUTDOWN afterwards: whoever found the platform shut down leaves it so.
    InitThenShutdown,
    /// SHUTDOWN first.
    Shutdown,
    /// Guests exist and would be lost: refuse.
    Refuse,
}

/// Plans the way from `now` to a state in `allowed`.
pub const fn prepare(allowed: States, now: PlatformState) -> Prepare {
    if allowed.contains(now) {
        return Prepare::Nothing;
    }
    match now {
        PlatformState::Uninit => Prepare::InitThenShutdown,
        PlatformState::Init if allowed.contains(PlatformState::Uninit) => Prepare::Shutdown,
        // INIT-only commands while guests run: let the firmware say INVALID_PLATFORM_STATE.
        PlatformState::Working if allowed.contains(PlatformState::Init) => Prepare::Nothing,
        PlatformState::Init | PlatformState::Working => Prepare::Refuse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use PlatformState::{Init, Uninit, Working};

    #[test]
    fn prepare_covers_every_state() {
        let table = [
            (States::ANY, Uninit, Prepare::Nothing),
            (States::ANY, Working, Prepare::Nothing),
            (States::UNINIT, Uninit, Prepare::Nothing),
            (States::UNINIT, Init, Prepare::Shutdown),
            (States::UNINIT, Working, Prepare::Refuse),
            (States::INIT, Uninit, Prepare::InitThenShutdown),
            (States::INIT, Init, Prepare::Nothing),
            (States::INIT, Working, Prepare::Nothing),
            (States::INIT_WORKING, Uninit, Prepare::InitThenShutdown),
            (States::INIT_WORKING, Init, Prepare::Nothing),
            (States::INIT_WORKING, Working, Prepare::Nothing),
        ];
        for (allowed, now, want) in table {
            assert_eq!(prepare(allowed, now), want, "{allowed:?} in {now:?}");
        }
    }

    #[test]
    fn a_state_byte_from_firmware_is_checked() {
        assert_eq!(PlatformState::try_from(2), Ok(Working));
        assert_eq!(PlatformState::try_from(3), Err(3));
    }
}
