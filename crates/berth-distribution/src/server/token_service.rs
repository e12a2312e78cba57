//! `/token`: the token service (distribution's token and OAuth2 specifications).

use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderMap, Method, StatusCode, header};
use serde_json::json;

use super::access::scope::Scope;
use super::access::{Guard, Identity, basic};
use super::dispatch::Call;
use super::fault::{Code, Fault, Reply};
use super::http::answer::Answer;
use super::http::query::Query;
use super::receive::small;
use super::service::Service;

/// Bytes that a form may have.
const FORM_MAX: u64 = 64 << 10;

/// What a client asks for, and how it proves who it is.
struct Ask {
    proof: Proof,
    service: Option<String>,
    scopes: Vec<Scope>,
    wants_refresh: bool,
}

enum Proof {
    None,
    Password(String, String),
    Refresh(String),
}

/// `GET` with basic credentials or none, `POST` with an OAuth2 form.
pub(crate) async fn answer(mut call: Call) -> Reply<Answer> {
    let ask = match call.method {
        Method::GET | Method::HEAD => by_query(&call.query, call.request.headers())?,
        Method::POST => {
            let form = small(call.request.body_mut(), FORM_MAX).await?;
            let text =
                std::str::from_utf8(&form).map_err(|_| bad_request("the form is not UTF-8"))?;
            by_form(&Query::parse(Some(text)))?
        }
        _ => {
            return Err(Fault::new(Code::Unsupported, "GET or POST is wanted")
                .with_header(header::ALLOW, "GET, POST"));
        }
    };
    let base = call.base();
    // A password takes its time.
    call.service
        .blocking(move |service| grant(service, ask, &base))
        .await
}

fn bad_request(why: &str) -> Fault {
    Fault::new(Code::Unsupported, why).with_status(StatusCode::BAD_REQUEST)
}

fn by_query(query: &Query, headers: &HeaderMap) -> Reply<Ask> {
    let proof = match headers.get(AUTHORIZATION) {
        None => Proof::None,
        Some(value) => {
            let credentials = value
                .to_str()
                .ok()
                .and_then(|text| text.split_once(' '))
                .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"))
                .and_then(|(_, rest)| basic(rest))
                .ok_or_else(|| bad_request("basic credentials are wanted"))?;
            Proof::Password(credentials.0, credentials.1)
        }
    };
    Ok(Ask {
        proof,
        service: query.get("service").map(str::to_owned),
        scopes: Scope::parse_all(query.all("scope")),
        wants_refresh: query.get("offline_token") == Some("true"),
    })
}

fn by_form(form: &Query) -> Reply<Ask> {
    let field = |name: &str| form.get(name).unwrap_or_default().to_owned();
    let proof = match form.get("grant_type") {
        Some("password") => Proof::Password(field("username"), field("password")),
        Some("refresh_token") => Proof::Refresh(field("refresh_token")),
        _ => return Err(bad_request("grant_type is password or refresh_token")),
    };
    Ok(Ask {
        proof,
        service: form.get("service").map(str::to_owned),
        scopes: Scope::parse_all(form.all("scope")),
        wants_refresh: form.get("access_type") == Some("offline"),
    })
}

fn grant(service: &Arc<Service>, ask: Ask, base: &str) -> Reply<Answer> {
    let guard = service.access.guard().ok_or_else(|| {
        Fault::new(Code::Unsupported, "this registry wants no tokens")
            .with_status(StatusCode::NOT_FOUND)
    })?;
    if let Some(other) = ask.service.filter(|s| *s != guard.settings.service) {
        return Err(bad_request(&format!(
            "tokens for {other:?} are not made here"
        )));
    }
    let identity = prove(guard, &ask.proof, base)?;
    let mut granted = Vec::new();
    for mut scope in ask.scopes {
        // Less than was asked for is no error: the client sees what it got when it uses it.
        scope
            .verbs
            .retain(|verb| guard.rules().allow(&identity, &scope.repository, *verb));
        if !scope.verbs.is_empty() {
            granted.push(scope);
        }
    }
    let token = guard.signer.issue(identity.name(), &granted);
    let mut reply = json!({
        "token": token,
        "access_token": token,
        "expires_in": guard.signer.lifetime(),
        "issued_at": jiff::Timestamp::now().to_string(),
    });
    let fingerprint = guard.fingerprint(identity.name());
    if let Some(fingerprint) = fingerprint.filter(|_| ask.wants_refresh) {
        reply["refresh_token"] = guard
            .signer
            .issue_refresh(identity.name(), fingerprint)
            .into();
    }
    Ok(Answer::new(StatusCode::OK)
        .header(header::CACHE_CONTROL, "no-store")
        .json(&reply))
}

fn prove(guard: &Guard, proof: &Proof, base: &str) -> Reply<Identity> {
    let refused = || {
        Fault::new(Code::Unauthorized, "incorrect username or password").with_header(
            header::WWW_AUTHENTICATE,
            format!("Basic realm=\"{base}/token\""),
        )
    };
    match proof {
        Proof::None => Ok(Identity::Anonymous),
        Proof::Password(name, password) => match guard.password(name, password)? {
            true => Ok(Identity::Known(name.clone())),
            false => Err(refused()),
        },
        Proof::Refresh(token) => {
            let (name, fingerprint) = guard.signer.refresh(token).ok_or_else(refused)?;
            // A new password ends what was given for the old one.
            match guard.fingerprint(&name) == Some(fingerprint) {
                true => Ok(Identity::Known(name)),
                false => Err(refused()),
            }
        }
    }
}
