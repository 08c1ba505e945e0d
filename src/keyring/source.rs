//! `KeySource`: where keys, and lists of them, come from, and why they do not.
//!
//! Implemented by `openstack`, and by the fakes of tests.

use std::error::Error;
use std::future::Future;
use std::time::Duration;

use super::key_problem::KeyProblem;
use super::listing::{ContainerProblem, Listing};
use crate::key_id::{ContainerId, KeyId};
use crate::secret::Kek;

/// Where keys come from. The one thing tests replace.
pub trait KeySource: Send + Sync + 'static {
    /// Downloads one key. Retries of single requests, logins and deadlines are
    /// the source's business; when to try again later is the caller's.
    fn fetch(&self, id: KeyId) -> impl Future<Output = Result<Kek, FetchError>> + Send;

    /// Who has created a key, by Barbican's word; a source that does not know says nobody.
    fn creator(&self, _: KeyId) -> impl Future<Output = Result<Option<String>, FetchError>> + Send {
        std::future::ready(Ok(None))
    }

    /// Reads which keys a container lists. A source that has no containers says so.
    fn list(
        &self,
        container: ContainerId,
    ) -> impl Future<Output = Result<Listing, ListError>> + Send {
        let cause = format!("this source has no container {container}");
        std::future::ready(Err(ListError::NotFound(cause.into())))
    }
}

/// Why OpenStack gives no answer of use, whatever it is asked for; each variant is a different
/// thing to do next.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// Nobody answered, or something in the place of a server that is away: try again at
    /// once, and go on so until somebody does.
    #[error("OpenStack is unavailable")]
    Unanswered(#[source] Cause),
    /// An answer that is of no use and may pass: try again soon.
    #[error("OpenStack is unavailable")]
    Unavailable {
        /// The source's own error.
        #[source]
        cause: Cause,
        /// How long the server has asked not to be asked again, if it has.
        retry_after: Option<Duration>,
    },
    /// Keystone refuses the credentials: try again rarely, repeated failures can
    /// lock the account.
    #[error("Keystone refuses the login")]
    Login {
        /// The source's own error.
        #[source]
        cause: Cause,
        /// How long the source will not ask Keystone again.
        again_in: Duration,
    },
}

/// Why a container could not be read; each variant is a different thing to do next.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// OpenStack gives no answer of use.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// Barbican knows us and refuses this container.
    #[error("Barbican refuses access to the container")]
    Denied(#[source] Cause),
    /// Barbican has no such container.
    #[error("Barbican has no such container")]
    NotFound(#[source] Cause),
    /// It is of another type, which cannot be changed.
    #[error("the container is not of type generic")]
    NotGeneric(#[source] Cause),
    /// Its description is longer than what is read.
    #[error("the container is too large")]
    TooLarge(#[source] Cause),
    /// The answer is none that Barbican gives.
    #[error("the answer is not a container's description")]
    Invalid(#[source] Cause),
    /// The source has panicked.
    #[error("the reading crashed, which is a bug: please report the preceding log lines")]
    Crashed,
}

/// Why a key could not be had; each variant is a different thing to do next.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// OpenStack gives no answer of use.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// Barbican knows us and refuses this key (401 after a new login, or 403).
    #[error("Barbican refuses access to the key")]
    Denied(#[source] Cause),
    /// Barbican has no such key: deleted, expired or never there (404).
    #[error("Barbican has no such key")]
    NotFound(#[source] Cause),
    /// Barbican's answer is not an AES key.
    #[error("Barbican's secret is not an AES key")]
    NotAKey(#[source] Cause),
    /// Another user has created the key than `key-container-owner` says.
    #[error(
        "the key was created by {}, and key-container-owner is {owner}: find out who has put it \
         into the container, and remove it from there",
        .creator.as_deref().unwrap_or("somebody who is not named")
    )]
    Foreign {
        /// Who has created it.
        creator: Option<String>,
        /// Who should have.
        owner: String,
    },
    /// The source has panicked.
    #[error("the download crashed, which is a bug: please report the preceding log lines")]
    Crashed,
}

/// The error of an edge, of which the core knows only the text.
pub type Cause = Box<dyn Error + Send + Sync>;

impl UpstreamError {
    /// Whether nobody has answered.
    pub(super) fn is_unanswered(&self) -> bool {
        matches!(self, Self::Unanswered(_))
    }

    /// For how long another try is unwelcome, or of no use.
    pub(super) fn wait(&self) -> Option<Duration> {
        match self {
            Self::Unanswered(_) => None,
            Self::Unavailable { retry_after, .. } => *retry_after,
            Self::Login { again_in, .. } => Some(*again_in),
        }
    }
}

impl ListError {
    pub(super) fn problem(&self) -> ContainerProblem {
        match self {
            Self::Upstream(UpstreamError::Login { .. }) => ContainerProblem::Login,
            Self::Upstream(_) => ContainerProblem::Unavailable,
            Self::Denied(_) => ContainerProblem::Denied,
            Self::NotFound(_) => ContainerProblem::NotFound,
            Self::NotGeneric(_) => ContainerProblem::NotGeneric,
            Self::TooLarge(_) => ContainerProblem::TooLarge,
            Self::Invalid(_) => ContainerProblem::Invalid,
            Self::Crashed => ContainerProblem::Crashed,
        }
    }

    /// The failure of OpenStack as a whole, if it is one.
    pub(super) fn upstream(&self) -> Option<&UpstreamError> {
        match self {
            Self::Upstream(error) => Some(error),
            _ => None,
        }
    }
}

impl FetchError {
    pub(super) fn problem(&self) -> KeyProblem {
        match self {
            Self::Upstream(UpstreamError::Login { .. }) => KeyProblem::Login,
            Self::Upstream(_) => KeyProblem::Unavailable,
            Self::Denied(_) => KeyProblem::Denied,
            Self::NotFound(_) => KeyProblem::NotFound,
            Self::NotAKey(_) => KeyProblem::NotAKey,
            Self::Foreign { .. } => KeyProblem::Foreign,
            Self::Crashed => KeyProblem::Crashed,
        }
    }

    /// The failure of OpenStack as a whole, if it is one.
    pub(super) fn upstream(&self) -> Option<&UpstreamError> {
        match self {
            Self::Upstream(error) => Some(error),
            _ => None,
        }
    }
}
