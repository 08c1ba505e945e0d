//! `CallError`: why a call is answered with an error, and as what it is counted.

use tonic::{Code, Status};

use crate::envelope::{OpenError, PlaintextTooLong};
use crate::instruments::Refusal;
use crate::key_id::{KeyId, KeyIdError};
use crate::keyring::KeyError;

/// Why a call is answered with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CallError {
    #[error("the request's key id is malformed: {0}")]
    KeyId(#[from] KeyIdError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("the key id {0} is not configured")]
    NotInRing(KeyId),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    PlaintextTooLong(#[from] PlaintextTooLong),
    #[error("the system provides no random numbers")]
    NoRandomness,
}

impl CallError {
    /// As what a refused Decrypt is counted.
    pub(super) fn refusal(self) -> Option<Refusal> {
        match self {
            Self::KeyId(_) => Some(Refusal::MalformedKeyId),
            Self::Key(KeyError::NotInRing) | Self::NotInRing(_) => Some(Refusal::NotInRing),
            Self::Key(KeyError::NotLoaded(_) | KeyError::NoList(_)) => Some(Refusal::NotLoaded),
            Self::Open(OpenError::Invalid) => Some(Refusal::Damaged),
            Self::Open(OpenError::Unauthenticated) => Some(Refusal::Unauthenticated),
            Self::PlaintextTooLong(_) | Self::NoRandomness => None,
        }
    }
}

impl From<CallError> for Status {
    fn from(error: CallError) -> Self {
        let code = match error {
            CallError::KeyId(_) | CallError::Open(_) | CallError::PlaintextTooLong(_) => {
                Code::InvalidArgument
            }
            CallError::Key(KeyError::NotInRing) | CallError::NotInRing(_) => {
                Code::FailedPrecondition
            }
            CallError::Key(KeyError::NotLoaded(_) | KeyError::NoList(_)) => Code::Unavailable,
            CallError::NoRandomness => Code::Internal,
        };
        Self::new(code, error.to_string())
    }
}
