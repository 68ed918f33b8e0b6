//! Results as objects.

use kvcap_calls as library;
use napi_derive::napi;

use crate::call::number;

/// Session's id, version and replay cursor.
#[napi(object)]
pub struct SessionClaims {
    pub id: String,
    pub version: i64,
    pub replay_cursor: i64,
}

fn session(claims: Option<(String, u64, u64)>) -> Option<SessionClaims> {
    claims.map(|(id, version, cursor)| SessionClaims {
        id,
        version: number(version),
        replay_cursor: number(cursor),
    })
}

fn pair(range: (u64, u64)) -> Vec<i64> {
    vec![number(range.0), number(range.1)]
}

fn owned(names: Vec<&str>) -> Vec<String> {
    names.into_iter().map(str::to_owned).collect()
}

#[napi(object)]
pub struct Verdict {
    pub id: String,
    pub key: String,
    pub issuer: String,
    pub audience: String,
    pub tenant: Option<String>,
    pub subject: Option<String>,
    pub expires: i64,
    pub judged_at: i64,
    pub model_id: String,
    pub model_name: String,
    pub runtime: String,
    pub runtime_version: String,
    pub positions: Vec<i64>,
    pub chain: Vec<String>,
    pub session: Option<SessionClaims>,
    pub unchecked: Vec<String>,
    pub unaccepted: Vec<String>,
    pub body: Option<Vec<i64>>,
}

impl From<library::Verdict> for Verdict {
    fn from(verdict: library::Verdict) -> Self {
        Self {
            id: verdict.id,
            key: verdict.key,
            issuer: verdict.issuer,
            audience: verdict.audience,
            tenant: verdict.tenant,
            subject: verdict.subject,
            expires: number(verdict.expires),
            judged_at: number(verdict.judged_at),
            model_id: verdict.model_id,
            model_name: verdict.model_name,
            runtime: verdict.runtime.0,
            runtime_version: verdict.runtime.1,
            positions: pair(verdict.positions),
            chain: verdict.chain,
            session: session(verdict.session),
            unchecked: owned(verdict.unchecked),
            unaccepted: owned(verdict.unaccepted),
            body: verdict.body.map(pair),
        }
    }
}

#[napi(object)]
pub struct Claims {
    pub id: String,
    pub key: String,
    pub issuer: String,
    pub audience: String,
    pub tenant: Option<String>,
    pub subject: Option<String>,
    pub scope: String,
    pub issued_at: i64,
    pub expires: i64,
    pub renew_until: i64,
    pub single_use: bool,
    pub session: Option<SessionClaims>,
    pub model_id: String,
    pub model_name: String,
    pub runtime: String,
    pub runtime_version: String,
    pub format: String,
    pub positions: Vec<i64>,
    pub prompt_tokens: i64,
    pub prompt: String,
    pub layers: u32,
    pub recipients: Vec<Recipient>,
    pub parent: Option<String>,
    pub length: i64,
}

/// A key that can open a capsule.
#[napi(object)]
pub struct Recipient {
    pub id: String,
    pub kind: String,
}

impl From<library::Claims> for Claims {
    fn from(claims: library::Claims) -> Self {
        let recipient = |(id, kind): (String, &str)| Recipient {
            id,
            kind: kind.to_owned(),
        };
        Self {
            id: claims.id,
            key: claims.key,
            issuer: claims.issuer,
            audience: claims.audience,
            tenant: claims.tenant,
            subject: claims.subject,
            scope: claims.scope,
            issued_at: number(claims.issued_at),
            expires: number(claims.expires),
            renew_until: number(claims.renew_until),
            single_use: claims.single_use,
            session: session(claims.session),
            model_id: claims.model.0,
            model_name: claims.model.1,
            runtime: claims.runtime.0,
            runtime_version: claims.runtime.1,
            format: claims.runtime.2,
            positions: pair(claims.positions),
            prompt_tokens: number(claims.prompt.0),
            prompt: claims.prompt.1.to_owned(),
            layers: claims.layers,
            recipients: claims.recipients.into_iter().map(recipient).collect(),
            parent: claims.parent,
            length: number(claims.length),
        }
    }
}

#[napi(object)]
pub struct Model {
    pub id: String,
    pub weights: String,
    pub config: String,
    pub name: String,
    pub vocabulary: String,
}

impl From<library::Model> for Model {
    fn from(model: library::Model) -> Self {
        Self {
            id: model.id,
            weights: model.weights,
            config: model.config,
            name: model.name,
            vocabulary: model.vocabulary,
        }
    }
}

#[napi(object)]
pub struct Key {
    pub id: String,
    pub public: Option<String>,
    pub issuer: Option<String>,
    pub public_path: Option<String>,
}

impl From<library::Key> for Key {
    fn from(key: library::Key) -> Self {
        let path = key.public_path.map(|path| path.display().to_string());
        Self {
            id: key.id,
            public: key.public,
            issuer: key.issuer,
            public_path: path,
        }
    }
}

#[napi(object)]
pub struct Registry {
    pub version: i64,
    pub root: String,
    pub issued_at: i64,
    pub expires: i64,
    pub keys: Vec<String>,
    pub revoked: Vec<String>,
}

impl From<library::Registry> for Registry {
    fn from(made: library::Registry) -> Self {
        Self {
            version: number(made.version),
            root: made.root,
            issued_at: number(made.issued_at),
            expires: number(made.expires),
            keys: made.keys,
            revoked: made.revoked,
        }
    }
}
