//! The words that label what is counted: enums, so that nobody outside can add any.

/// A variant's word in metrics.
pub trait Label: Copy + 'static {
    /// Every variant, in the order of their numbers.
    const ALL: &'static [Self];

    /// The word.
    fn as_str(self) -> &'static str;
}

macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// Every variant, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
        }

        impl Label for $name {
            const ALL: &'static [Self] = $name::ALL;

            fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }
    };
}

labels! {
    /// A call of the socket.
    Method {
        /// KMS v2 Status.
        Status = "Status",
        /// KMS v2 Encrypt.
        Encrypt = "Encrypt",
        /// KMS v2 Decrypt.
        Decrypt = "Decrypt",
        /// What `barbican-kms status` asks.
        Describe = "Describe",
        /// Anything else.
        Other = "other",
    }
}

labels! {
    /// What is done with a seed.
    Operation {
        /// Wrapped.
        Encrypt = "encrypt",
        /// Unwrapped.
        Decrypt = "decrypt",
    }
}

labels! {
    /// In which form a seed is stored.
    Format {
        /// With an authentication tag.
        Tagged = "tagged",
        /// Without one, as the Go plugin writes it.
        Legacy = "legacy",
    }
}

labels! {
    /// Why a Decrypt is refused.
    Refusal {
        /// The key id is not one.
        MalformedKeyId = "malformed_key_id",
        /// The key id is not configured.
        NotInRing = "not_in_ring",
        /// The key is configured, and could not be loaded.
        NotLoaded = "not_loaded",
        /// Tag, length or padding is wrong.
        Damaged = "damaged",
        /// No tag, and `require-authentication` is set.
        Unauthenticated = "unauthenticated",
    }
}

labels! {
    /// A request to OpenStack.
    Upstream {
        /// Keystone: credentials in, a token out.
        Login = "login",
        /// Barbican: the bytes of a key.
        Payload = "payload",
        /// Barbican: what is recorded about a key; `check` only.
        Metadata = "metadata",
        /// Barbican: the list of keys.
        Container = "container",
        /// Keystone: when the application credential ends.
        Credential = "credential",
    }
}

impl Upstream {
    /// Which service it goes to.
    pub fn service(self) -> &'static str {
        match self {
            Self::Login | Self::Credential => "keystone",
            Self::Payload | Self::Metadata | Self::Container => "barbican",
        }
    }
}

labels! {
    /// How a request to OpenStack ended.
    Outcome {
        /// As it should.
        Ok = "ok",
        /// 401.
        Unauthorized = "unauthorized",
        /// 403.
        Forbidden = "forbidden",
        /// 404 or 410.
        NotFound = "not_found",
        /// 429.
        Throttled = "throttled",
        /// Another status below 500, or a redirect.
        ClientError = "client_error",
        /// 500 and above.
        ServerError = "server_error",
        /// No whole answer in time.
        Timeout = "timeout",
        /// No connection: name, route, proxy.
        Unreachable = "unreachable",
        /// No trust: certificates.
        Tls = "tls",
        /// The connection broke, or the answer makes no sense.
        BadReply = "bad_reply",
    }
}
