//! What a failed request means.
//!
//! Used by `http`. Pure. Invariant: no error of a library is shown as that library prints
//! it for programmers, if there is a better text.

use std::error::Error as StdError;

use http::uri::Scheme;

use crate::openstack::connect::{find, innermost};
use crate::openstack::error::Problem;
use crate::openstack::tls;

/// The longest header section of a reply. A token is at most a few KiB of it.
pub(super) const HEAD_BYTES: usize = 64 * 1024;

/// What a failed request means. `scheme` is given as long as no answer has begun.
pub(super) fn sending_problem(
    error: &(dyn StdError + 'static),
    scheme: Option<&Scheme>,
) -> Problem {
    if let Some(problem) = find::<Problem>(error) {
        return problem.clone();
    }
    if let Some(error) = find::<rustls::Error>(error) {
        return Problem::Tls(tls::problem(error));
    }
    let what = match find::<hyper::Error>(error) {
        Some(error) if error.is_parse_too_large() => {
            return Problem::HeadTooLong { cap: HEAD_BYTES };
        }
        Some(error) if error.is_parse() => "the answer is not HTTP".to_owned(),
        Some(error) if error.is_incomplete_message() => {
            "the connection was closed before the answer was complete".to_owned()
        }
        _ => format!("the connection broke: {}", innermost(error)),
    };
    // How servers that expect TLS answer to plain HTTP differs widely.
    let hint = if scheme == Some(&Scheme::HTTP) {
        "; if the server speaks TLS on this port, the URL must be https"
    } else {
        ""
    };
    Problem::Broken(what + hint)
}
