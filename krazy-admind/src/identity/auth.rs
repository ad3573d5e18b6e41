//! Who asks: a token, as Bearer (RFC 6750) or as the password of HTTP Basic (RFC 7617).
//!
//! With Basic the user's name is not looked at: the token itself says whose it is.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use headers::authorization::{Authorization, Basic, Bearer, Credentials};
use headers::{HeaderMap, HeaderValue};
use krazy_boot::api::credentials::{Role, Scope, Token, TokenFile};
use tokio::time::{Instant, sleep};
use warp::http::{Uri, header};

use crate::identity::clients::{Client, KnownClients};
use crate::identity::throttle::{MAX_WAIT, Throttle};
use crate::problem::{Kind, Problem};

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
    known_clients: KnownClients,
}

/// Why nobody was let in.
#[derive(Debug)]
pub(crate) struct Denial {
    pub(crate) problem: Problem,
    /// When to say so.
    pub(crate) after: Duration,
}

impl Auth {
    pub(crate) fn new(tokens: TokenFile) -> Self {
        Auth {
            tokens: Mutex::new(Arc::new(tokens)),
            changing: tokio::sync::Mutex::default(),
            throttle: Mutex::default(),
            known_clients: KnownClients::default(),
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

    /// Who is behind `address`.
    pub(crate) fn client(&self, address: IpAddr) -> Client {
        self.known_clients.client(address)
    }

    /// Finds out who asks. A wrong credential makes the answers to the next ones from there wait; none at all does
    /// not, because browsers begin that way.
    pub(crate) async fn identify(&self, headers: &HeaderMap, address: IpAddr) -> Result<Identity, Denial> {
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            let text = "send a token as `Authorization: Bearer`, or as the password of Basic";
            return Err(Denial { problem: unauthorized(text), after: Duration::ZERO });
        };
        let client = self.client(address);
        let overfull = self.throttle(|throttle| throttle.overfull(client, now()));
        if overfull.is_some() {
            sleep(MAX_WAIT).await;
        }
        let tokens = self.tokens();
        if let Some(entry) = token(value).and_then(|token| tokens.find(&token)) {
            self.known_clients.remember(address);
            return Ok(Identity {
                name: entry.name.clone(),
                role: entry.role,
                whole_tree: entry.role == Role::Admin && entry.scopes.contains(&Scope::WholeTree),
            });
        }
        if let Some(wait) = overfull {
            let text = format!("too many wrong credentials came from {address}");
            let problem = Problem::new(Kind::TooManyAttempts, text)
                .header(header::RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1));
            return Err(Denial { problem, after: Duration::ZERO });
        }
        crate::log::write(format_args!("a wrong credential came from {address}"));
        let after = self.throttle(|throttle| throttle.failed(client, now()));
        Err(Denial { problem: unauthorized("this device does not know the credential"), after })
    }

    fn throttle<T>(&self, act: impl FnOnce(&mut Throttle) -> T) -> T {
        act(&mut self.throttle.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The clock that [`sleep`] goes by.
fn now() -> std::time::Instant {
    Instant::now().into_std()
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
    use krazy_boot::api::credentials::HashedToken;

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

    fn door() -> Auth {
        let right = TOKEN.parse().unwrap();
        let hashed = HashedToken::new("right", Role::Admin, Vec::new(), &right, [1; 16]);
        Auth::new(TokenFile::new(vec![hashed]).unwrap())
    }

    fn bearer(token: &str) -> HeaderMap {
        let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
        HeaderMap::from_iter([(header::AUTHORIZATION, value)])
    }

    #[tokio::test(start_paused = true)]
    async fn a_right_credential_passes_whatever_its_neighbours_do() {
        let (auth, start) = (door(), Instant::now());
        let [wrong, right] = [bearer(&TOKEN.replace("01", "02")), bearer(TOKEN)];
        let [guesser, neighbour, stranger]: [IpAddr; 3] =
            ["2001:db8::1", "2001:db8::2", "2001:db8::3"].map(|text| text.parse().unwrap());
        assert_eq!(auth.identify(&right, neighbour).await.unwrap().name, "right");
        let mut last = Duration::ZERO;
        let refused = loop {
            let denial = auth.identify(&wrong, guesser).await.unwrap_err();
            if denial.problem.kind() == Kind::TooManyAttempts {
                break denial;
            }
            assert_eq!(denial.problem.kind(), Kind::Unauthorized);
            assert!(last <= denial.after && denial.after <= MAX_WAIT);
            last = denial.after;
        };
        // Nothing is learnt about further guesses before their time has come.
        assert!(start.elapsed() >= MAX_WAIT && refused.after == Duration::ZERO);
        assert!(refused.problem.into_response().headers().contains_key(header::RETRY_AFTER));
        while auth.throttle(|throttle| throttle.overfull(auth.client(guesser), now())).is_none() {
            auth.identify(&wrong, guesser).await.unwrap_err();
        }
        let before = Instant::now();
        assert!(auth.identify(&right, neighbour).await.is_ok());
        assert_eq!(before.elapsed(), Duration::ZERO, "the neighbour was here before");
        assert!(auth.identify(&right, stranger).await.is_ok());
        assert_eq!(before.elapsed(), MAX_WAIT, "the stranger waits, but is let in");
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
