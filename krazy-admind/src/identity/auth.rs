//! Authentication by a token, sent as Bearer (RFC 6750) or as the password of HTTP Basic (RFC 7617).
//!
//! With Basic, the user name is ignored: the token alone identifies the client.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use headers::authorization::{Authorization, Basic, Bearer, Credentials};
use headers::{HeaderMap, HeaderValue};
use krazy_boot::api::credentials::{Role, Scope, Token};
use tokio::time::{Instant, sleep};
use warp::http::{Uri, header};

use super::clients::KnownClients;
use super::throttle::{MAX_QUEUE, Throttle};
use super::tokens::Tokens;
use crate::problem::{Kind, Problem};

/// A client whose token is valid.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// The name of the token.
    pub(crate) name: String,
    /// The role of the token.
    pub(crate) role: Role,
    /// True if the token reaches files anywhere.
    pub(crate) whole_tree: bool,
}

/// The check of credentials.
pub(crate) struct Auth {
    tokens: Arc<Tokens>,
    throttle: Mutex<Throttle>,
    known_clients: KnownClients,
}

/// A rejected request.
#[derive(Debug)]
pub(crate) struct Denial {
    pub(crate) problem: Problem,
    /// The delay before the response.
    pub(crate) delay: Duration,
}

impl Auth {
    pub(crate) fn new(tokens: Arc<Tokens>) -> Self {
        Auth { tokens, throttle: Mutex::default(), known_clients: KnownClients::default() }
    }

    /// The tokens of clients.
    pub(crate) fn tokens(&self) -> &Arc<Tokens> {
        &self.tokens
    }

    /// Identifies the client of a request. An invalid credential delays the responses to further ones from the same
    /// client. A missing one does not, because browsers send their first request without.
    pub(crate) async fn identify(&self, headers: &HeaderMap, address: IpAddr) -> Result<Identity, Denial> {
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            let text = "send a token as `Authorization: Bearer`, or as the password of Basic";
            return Err(Denial { problem: unauthorized(text), delay: Duration::ZERO });
        };
        let client = self.known_clients.client(address);
        let queued = self.throttle(|throttle| throttle.overlong_queue(client, now()));
        if queued.is_some() {
            sleep(MAX_QUEUE).await;
        }
        let tokens = self.tokens.current();
        if let Some(entry) = parse_token(value).and_then(|token| tokens.find(&token)) {
            self.known_clients.remember(address);
            return Ok(Identity {
                name: entry.name.clone(),
                role: entry.role,
                whole_tree: entry.role == Role::Admin && entry.scopes.contains(&Scope::WholeTree),
            });
        }
        if let Some(wait) = queued {
            let text = format!("too many invalid credentials came from {address}");
            let problem = Problem::new(Kind::TooManyAttempts, text)
                .header(header::RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1));
            return Err(Denial { problem, delay: Duration::ZERO });
        }
        crate::log::write(format_args!("invalid credential from {address}"));
        let delay = self.throttle(|throttle| throttle.failed(client, now()));
        Err(Denial { problem: unauthorized("the credential is not valid on this device"), delay })
    }

    fn throttle<T>(&self, act: impl FnOnce(&mut Throttle) -> T) -> T {
        act(&mut self.throttle.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Reads the clock of [`sleep`], which tests can pause.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

/// Returns the token in an `Authorization` header.
fn parse_token(value: &HeaderValue) -> Option<Token> {
    // Names of schemes are case-insensitive (RFC 9110, section 11.1), but the decoders expect one spelling.
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

/// A response that asks for a credential by either scheme. The realm does not reveal the name of the device.
fn unauthorized(detail: &str) -> Problem {
    Problem::new(Kind::Unauthorized, detail)
        .header(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static("Basic realm=\"krazy\", charset=\"UTF-8\""),
        )
        .header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"krazy\""))
}

/// Rejects requests that a browser sends for another site: it adds the stored password to every form that points here.
///
/// Programs send neither header. Only for methods that change something.
pub(crate) fn reject_cross_site(headers: &HeaderMap, uri_host: Option<&str>) -> Result<(), Problem> {
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
    use std::path::Path;

    use krazy_boot::api::credentials::{HashedToken, TokenFile};

    use super::*;
    use crate::device::CredentialStore;

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
            assert_eq!(parse_token(&value), Some(TOKEN.parse().unwrap()), "{value:?}");
        }
        for value in ["", "Bearer", "Bearer x", "Basic ???", "Basic YQ==", "Digest a", TOKEN] {
            assert_eq!(parse_token(&HeaderValue::from_str(value).unwrap()), None, "{value}");
        }
    }

    fn auth() -> Auth {
        let token = TOKEN.parse().unwrap();
        let hashed = HashedToken::new("right", Role::Admin, Vec::new(), &token, [1; 16]);
        let tokens = TokenFile::new(vec![hashed]).unwrap();
        // Nothing is stored.
        Auth::new(Arc::new(Tokens::new(CredentialStore::of(Path::new("/nowhere")), tokens)))
    }

    fn bearer(token: &str) -> HeaderMap {
        let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
        HeaderMap::from_iter([(header::AUTHORIZATION, value)])
    }

    #[tokio::test(start_paused = true)]
    async fn valid_credential_is_accepted_whatever_its_neighbours_send() {
        let (auth, start) = (auth(), Instant::now());
        let [invalid, valid] = [bearer(&TOKEN.replace("01", "02")), bearer(TOKEN)];
        let [guesser, neighbour, unknown]: [IpAddr; 3] =
            ["2001:db8::1", "2001:db8::2", "2001:db8::3"].map(|text| text.parse().unwrap());
        assert_eq!(auth.identify(&valid, neighbour).await.unwrap().name, "right");
        let mut last = Duration::ZERO;
        let rejected = loop {
            let denial = auth.identify(&invalid, guesser).await.unwrap_err();
            if denial.problem.kind() == Kind::TooManyAttempts {
                break denial;
            }
            assert_eq!(denial.problem.kind(), Kind::Unauthorized);
            assert!(last <= denial.delay && denial.delay <= MAX_QUEUE);
            last = denial.delay;
        };
        // The response to a further guess reveals nothing before its time.
        assert!(start.elapsed() >= MAX_QUEUE && rejected.delay == Duration::ZERO);
        assert!(rejected.problem.into_response().headers().contains_key(header::RETRY_AFTER));
        let client = auth.known_clients.client(guesser);
        while auth.throttle(|throttle| throttle.overlong_queue(client, now())).is_none() {
            auth.identify(&invalid, guesser).await.unwrap_err();
        }
        let before = Instant::now();
        assert!(auth.identify(&valid, neighbour).await.is_ok());
        assert_eq!(before.elapsed(), Duration::ZERO, "the neighbour is a known client");
        assert!(auth.identify(&valid, unknown).await.is_ok());
        assert_eq!(before.elapsed(), MAX_QUEUE, "the unknown client waits, but is accepted");
    }

    #[test]
    fn requests_of_other_sites_are_rejected() {
        let check = |list: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in list {
                headers.insert(*name, HeaderValue::from_static(value));
            }
            reject_cross_site(&headers, Some("device:8443")).is_ok()
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
