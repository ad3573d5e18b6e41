//! Who asks: a token, as Bearer (RFC 6750) or as the password of HTTP Basic (RFC 7617).
//!
//! With Basic the user's name is not looked at: the token itself says whose it is.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use headers::authorization::{Authorization, Basic, Bearer, Credentials};
use headers::{HeaderMap, HeaderValue};
use krazy_boot::credentials::{Role, Scope, Token, TokenFile};
use warp::http::{Uri, header};

use crate::problem::{Kind, Problem};
use crate::throttle::{Admission, Throttle};

/// Whose token it was.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// The token's name.
    pub(crate) name: String,
    /// What it may do.
    pub(crate) role: Role,
    /// Whether it reaches files anywhere.
    pub(crate) whole_tree: bool,
}

/// The door.
pub(crate) struct Auth {
    tokens: Mutex<Arc<TokenFile>>,
    /// Held while the tokens are being changed.
    changing: tokio::sync::Mutex<()>,
    throttle: Mutex<Throttle>,
}

impl Auth {
    pub(crate) fn new(tokens: TokenFile) -> Self {
        Auth {
            tokens: Mutex::new(Arc::new(tokens)),
            changing: tokio::sync::Mutex::default(),
            throttle: Mutex::default(),
        }
    }

    /// The tokens that count.
    pub(crate) fn tokens(&self) -> Arc<TokenFile> {
        Arc::clone(&self.tokens.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// To be held from reading the tokens to [`Auth::replace`].
    pub(crate) async fn changing(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.changing.lock().await
    }

    /// From now on, these count.
    pub(crate) fn replace(&self, tokens: TokenFile) {
        *self.tokens.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(tokens);
    }

    /// Finds out who asks. A wrong credential makes the next ones from `address` wait; none at all does not,
    /// because browsers begin that way.
    pub(crate) async fn identify(&self, headers: &HeaderMap, address: IpAddr) -> Result<Identity, Problem> {
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            return Err(unauthorized("send a token as `Authorization: Bearer`, or as the password of Basic"));
        };
        match self.throttle(|throttle| throttle.admit(address, Instant::now())) {
            Admission::After(Duration::ZERO) => {}
            Admission::After(wait) => tokio::time::sleep(wait).await,
            Admission::Refused(wait) => {
                return Err(Problem::new(
                    Kind::TooManyAttempts,
                    format!("too many wrong credentials came from {address}"),
                )
                .header(header::RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1)));
            }
        }
        let tokens = self.tokens();
        match token(value).and_then(|token| tokens.find(&token)) {
            Some(entry) => {
                self.throttle(|throttle| throttle.succeeded(address));
                Ok(Identity {
                    name: entry.name.clone(),
                    role: entry.role,
                    whole_tree: entry.role == Role::Admin && entry.scopes.contains(&Scope::WholeTree),
                })
            }
            None => {
                self.throttle(|throttle| throttle.failed(address, Instant::now()));
                crate::log(&format!("a wrong credential came from {address}"));
                Err(unauthorized("this device does not know the credential"))
            }
        }
    }

    fn throttle<T>(&self, act: impl FnOnce(&mut Throttle) -> T) -> T {
        act(&mut self.throttle.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn token(value: &HeaderValue) -> Option<Token> {
    // The schemes' names are case-insensitive (RFC 9110, section 11.1); the typed decoders expect one form.
    let (scheme, rest) = value.to_str().ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case(Bearer::SCHEME) {
        rest.trim().parse().ok()
    } else if scheme.eq_ignore_ascii_case(Basic::SCHEME) {
        let canonical = HeaderValue::from_str(&format!("{} {}", Basic::SCHEME, rest.trim())).ok()?;
        Authorization(Basic::decode(&canonical)?).0.password().parse().ok()
    } else {
        None
    }
}

/// Both ways in. The realm does not tell what device this is.
fn unauthorized(detail: &str) -> Problem {
    Problem::new(Kind::Unauthorized, detail)
        .header(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static("Basic realm=\"krazy\", charset=\"UTF-8\""),
        )
        .header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"krazy\""))
}

/// Refuses what a browser sends for another site: it adds the password it remembers to any form that points
/// here. Programs send neither header. Only for methods that change something.
pub(crate) fn refuse_cross_site(headers: &HeaderMap, uri_host: Option<&str>) -> Result<(), Problem> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let foreign_fetch = text("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none");
    let host = text("host").or(uri_host);
    let foreign_origin = text("origin").is_some_and(|origin| {
        let authority = origin.parse::<Uri>().ok().and_then(|uri| uri.authority().map(ToString::to_string));
        authority.as_deref() != host
    });
    if foreign_fetch || foreign_origin {
        return Err(Problem::new(Kind::CrossSite, "the request comes from a page of another site"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "krz_0101010101010101010101010101010101010101010101010101010101010101";

    #[test]
    fn bearer_and_basic_carry_tokens() {
        // printf 'admin:krz_0101…' | base64
        let basic = "YWRtaW46a3J6XzAxMDEwMTAxMDEwMTAxMDEwMTAxMDEwMTAxMDEwMTAxMDEwMTAxMDEwMTAxMDEwMTAxMDEwMTAxMDEwMTAxMDE=";
        for value in [
            format!("Bearer {TOKEN}"),
            format!("bearer  {TOKEN}"),
            format!("Basic {basic}"),
            format!("BASIC {basic}"),
        ] {
            let value = HeaderValue::from_str(&value).unwrap();
            assert_eq!(token(&value), Some(TOKEN.parse().unwrap()), "{value:?}");
        }
        for value in ["", "Bearer", "Bearer x", "Basic ???", "Basic YQ==", "Digest a", TOKEN] {
            assert_eq!(token(&HeaderValue::from_str(value).unwrap()), None, "{value}");
        }
    }

    #[test]
    fn other_sites_are_told_apart() {
        let check = |list: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in list {
                headers.insert(*name, HeaderValue::from_static(value));
            }
            refuse_cross_site(&headers, Some("device:8443")).is_ok()
        };
        assert!(check(&[]));
        assert!(check(&[("origin", "https://device:8443")]));
        assert!(check(&[("host", "10.0.0.5:8443"), ("origin", "https://10.0.0.5:8443")]));
        assert!(check(&[("sec-fetch-site", "same-origin")]));
        assert!(!check(&[("origin", "https://evil.example")]));
        assert!(!check(&[("origin", "null")]));
        assert!(!check(&[("sec-fetch-site", "cross-site")]));
        assert!(!check(&[("sec-fetch-site", "same-site")]));
    }
}
