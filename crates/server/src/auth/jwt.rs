//! Signed login tokens: JSON Web Tokens, which whoever has the public key can make or read.
//!
//! The claims are etcd's: `username`, `revision` (the auth revision at which it was made) and
//! `exp`. So every change of users and roles ends all of them, and clients log in again. They need
//! nothing of the cluster's state, and an operator may let somebody else sign them: then this
//! member has the public key alone, and `Authenticate` is refused.
//!
//! **Guarantee.** Only the configured algorithm is taken, whatever the token says of itself; a
//! token without one of the claims, or with a claim of another type, is none.
//!
//! Sources: RFC 7519 (JWT), RFC 8725 (its best current practices, sections 2.1 and 3.1); etcd
//! `server/auth/jwt.go`, `options.go`.

use bytes::Bytes;
use jsonwebtoken::{DecodingKey, EncodingKey, Header, Validation};
use quorate_replica::store::{Credential, Denied};
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// How long a signed token lives unless told otherwise; etcd's default.
const TTL_DEFAULT: Duration = Duration::from_secs(300);

/// How tokens are signed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Algorithm {
    /// With a shared secret, which is the content of the private key's file.
    Hmac(jsonwebtoken::Algorithm),
    /// With a key pair.
    Pair(jsonwebtoken::Algorithm),
}

impl Algorithm {
    fn of(self) -> jsonwebtoken::Algorithm {
        match self {
            Algorithm::Hmac(algorithm) | Algorithm::Pair(algorithm) => algorithm,
        }
    }
}

impl FromStr for Algorithm {
    type Err = JwtError;

    /// From its name in RFC 7518.
    fn from_str(name: &str) -> Result<Algorithm, JwtError> {
        let unknown = || JwtError::Algorithm { name: name.to_owned() };
        match name {
            "HS256" | "HS384" | "HS512" => name.parse().map(Algorithm::Hmac).map_err(|_| unknown()),
            // The library knows these two; RFC 7518 has a third, which it does not.
            "ES256" | "ES384" | "EdDSA" | "RS256" | "RS384" | "RS512" | "PS256" | "PS384"
            | "PS512" => name.parse().map(Algorithm::Pair).map_err(|_| unknown()),
            _ => Err(unknown()),
        }
    }
}

/// What is configured about signed tokens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JwtSettings {
    /// File of the public key, in PEM. It follows from the private one and can be left out with
    /// that.
    pub pub_key: Option<PathBuf>,
    /// File of the private key, in PEM, or of the shared secret. Without it this member takes
    /// tokens and makes none.
    pub priv_key: Option<PathBuf>,
    /// How tokens are signed.
    pub algorithm: Algorithm,
    /// How long they live.
    pub ttl: Duration,
}

/// Why signed tokens cannot be made or taken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum JwtError {
    /// An option that does not exist, or has no value.
    Option {
        /// As it was written.
        text: String,
    },
    /// An option is missing.
    Missing {
        /// Its name.
        name: &'static str,
    },
    /// The algorithm is unknown.
    Algorithm {
        /// As it was written.
        name: String,
    },
    /// A time to live that is none.
    Ttl {
        /// As it was written.
        text: String,
    },
    /// A file cannot be read.
    File {
        /// The file.
        file: PathBuf,
        /// Why.
        error: String,
    },
    /// What is in a file is no key of this algorithm.
    Key {
        /// The file.
        file: PathBuf,
        /// Why.
        error: String,
    },
}

impl fmt::Display for JwtError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JwtError::Option { text } => write!(
                f,
                "jwt option {text:?} is unknown; write pub-key=FILE, priv-key=FILE, \
                 sign-method=NAME or ttl=TIME"
            ),
            JwtError::Missing { name } => write!(f, "jwt needs {name}=..."),
            JwtError::Algorithm { name } => write!(
                f,
                "jwt sign-method {name:?} is not supported; write RS256, RS384, RS512, PS256, \
                 PS384, PS512, ES256, ES384, EdDSA, HS256, HS384 or HS512"
            ),
            JwtError::Ttl { text } => write!(f, "jwt ttl {text:?} is no time; write 5m or 90s"),
            JwtError::File { file, error } => {
                write!(f, "cannot read the key {}: {error}", file.display())
            }
            JwtError::Key { file, error } => write!(
                f,
                "{} holds no key of this sign-method: {error}; private keys of ES256, ES384 and \
                 EdDSA are expected in PKCS#8 (`openssl pkcs8 -topk8 -nocrypt`)",
                file.display()
            ),
        }
    }
}

impl std::error::Error for JwtError {}

impl JwtSettings {
    /// Reads `pub-key=FILE,priv-key=FILE,sign-method=NAME,ttl=TIME`, in any order. `duration` reads
    /// a time.
    ///
    /// Errors: an option is unknown, wrong or missing. Files are not looked at.
    pub fn parse(
        text: &str,
        duration: impl Fn(&str) -> Option<Duration>,
    ) -> Result<JwtSettings, JwtError> {
        let (mut pub_key, mut priv_key, mut algorithm) = (None, None, None);
        let mut ttl = TTL_DEFAULT;
        for option in text.split(',').filter(|option| !option.is_empty()) {
            let unknown = || JwtError::Option { text: option.to_owned() };
            match option.split_once('=').ok_or_else(unknown)? {
                ("pub-key", file) => pub_key = Some(PathBuf::from(file)),
                ("priv-key", file) => priv_key = Some(PathBuf::from(file)),
                ("sign-method", name) => algorithm = Some(name.parse()?),
                ("ttl", time) => {
                    let parsed = duration(time).filter(|ttl| !ttl.is_zero());
                    ttl = parsed.ok_or_else(|| JwtError::Ttl { text: time.to_owned() })?;
                }
                _ => return Err(unknown()),
            }
        }
        let algorithm = algorithm.ok_or(JwtError::Missing { name: "sign-method" })?;
        match (algorithm, &pub_key, &priv_key) {
            (Algorithm::Hmac(_), _, None) => Err(JwtError::Missing { name: "priv-key" }),
            (Algorithm::Pair(_), None, None) => Err(JwtError::Missing { name: "pub-key" }),
            _ => Ok(JwtSettings { pub_key, priv_key, algorithm, ttl }),
        }
    }
}

/// What a token says.
#[derive(Debug, Deserialize, Serialize)]
struct Claims {
    username: String,
    revision: u64,
    exp: u64,
}

/// The keys.
pub(super) struct Jwt {
    algorithm: jsonwebtoken::Algorithm,
    signing: Option<EncodingKey>,
    verifying: DecodingKey,
    ttl: Duration,
}

impl Jwt {
    /// Reads the keys.
    ///
    /// Errors: [`JwtError::File`], [`JwtError::Key`].
    pub(super) fn load(settings: &JwtSettings) -> Result<Jwt, JwtError> {
        let read = |file: &Path| {
            let error = |error: std::io::Error| error.to_string();
            let failed = |error| JwtError::File { file: file.to_owned(), error };
            std::fs::read(file).map_err(error).map_err(failed)
        };
        let algorithm = settings.algorithm.of();
        let (signing, verifying) = match (settings.algorithm, &settings.pub_key) {
            (Algorithm::Hmac(_), _) => {
                let file = settings.priv_key.as_ref();
                let secret = read(file.ok_or(JwtError::Missing { name: "priv-key" })?)?;
                (Some(EncodingKey::from_secret(&secret)), DecodingKey::from_secret(&secret))
            }
            (Algorithm::Pair(_), given) => {
                let private = |file: &PathBuf| {
                    private(algorithm, &read(file)?).map_err(|error| bad_key(file, &error))
                };
                let signing = settings.priv_key.as_ref().map(private).transpose()?;
                let verifying = match (given, &settings.priv_key) {
                    (Some(file), _) => {
                        public(algorithm, &read(file)?).map_err(|error| bad_key(file, &error))
                    }
                    (None, Some(file)) => public_of(algorithm, &read(file)?)
                        .map_err(|error| JwtError::Key { file: file.clone(), error }),
                    (None, None) => Err(JwtError::Missing { name: "pub-key" }),
                };
                (signing, verifying?)
            }
        };
        let jwt = Jwt { algorithm, signing, verifying, ttl: settings.ttl };
        jwt.try_out(settings)?;
        Ok(jwt)
    }

    /// A private key that is none of the algorithm is found out now, and one that does not belong
    /// to the public key too.
    fn try_out(&self, settings: &JwtSettings) -> Result<(), JwtError> {
        let Some(file) = settings.priv_key.as_ref().filter(|_| self.signing.is_some()) else {
            return Ok(());
        };
        let text = |error: &str| JwtError::Key { file: file.clone(), error: error.to_owned() };
        let token = self.sign(b"nobody", 0, 0).ok_or_else(|| text("it does not sign"))?;
        let verified = self.decode(&token).map_err(|_| text("the public key is of another one"))?;
        assert_eq!(verified.username, "nobody", "what is signed is what is verified");
        Ok(())
    }

    /// A token for `user`, at `now` in seconds of Unix time. None without a private key.
    pub(super) fn sign(&self, user: &[u8], revision: u64, now: u64) -> Option<String> {
        let username = String::from_utf8(user.to_vec()).ok()?;
        let claims = Claims { username, revision, exp: now + self.ttl.as_secs().max(1) };
        let header = Header::new(self.algorithm);
        jsonwebtoken::encode(&header, &claims, self.signing.as_ref()?).ok()
    }

    /// Whose token this is, and how long it is good at `now`.
    ///
    /// Errors: [`Denied::BadToken`].
    pub(super) fn verify(&self, token: &str, now: u64) -> Result<(Credential, Duration), Denied> {
        let Claims { username, revision, exp } = self.decode(token)?;
        let left = exp.checked_sub(now).filter(|left| *left > 0).ok_or(Denied::BadToken)?;
        let user = Bytes::from(username);
        Ok((Credential::Signed { user, revision }, Duration::from_secs(left)))
    }

    /// The claims, whatever the time.
    fn decode(&self, token: &str) -> Result<Claims, Denied> {
        let mut validation = Validation::new(self.algorithm);
        // The clock is looked at by the caller; that all claims are there, by their type.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let decoded = jsonwebtoken::decode(token, &self.verifying, &validation);
        decoded.map(|decoded| decoded.claims).map_err(|_| Denied::BadToken)
    }
}

fn bad_key(file: &Path, error: &jsonwebtoken::errors::Error) -> JwtError {
    JwtError::Key { file: file.to_owned(), error: error.to_string() }
}

type KeyError = jsonwebtoken::errors::Error;

fn public(algorithm: jsonwebtoken::Algorithm, pem: &[u8]) -> Result<DecodingKey, KeyError> {
    use jsonwebtoken::Algorithm as A;
    match algorithm {
        A::ES256 | A::ES384 => DecodingKey::from_ec_pem(pem),
        A::EdDSA => DecodingKey::from_ed_pem(pem),
        _ => DecodingKey::from_rsa_pem(pem),
    }
}

fn private(algorithm: jsonwebtoken::Algorithm, pem: &[u8]) -> Result<EncodingKey, KeyError> {
    use jsonwebtoken::Algorithm as A;
    match algorithm {
        A::ES256 | A::ES384 => EncodingKey::from_ec_pem(pem),
        A::EdDSA => EncodingKey::from_ed_pem(pem),
        _ => EncodingKey::from_rsa_pem(pem),
    }
}

/// The public half of a private key.
///
/// Errors: it is no key of the algorithm, in words.
fn public_of(algorithm: jsonwebtoken::Algorithm, pem: &[u8]) -> Result<DecodingKey, String> {
    use jsonwebtoken::Algorithm as A;
    let pem = pem::parse(pem).map_err(|error| error.to_string())?;
    let der = pem.contents();
    let rejected = |error: ring::error::KeyRejected| error.to_string();
    let curve = match algorithm {
        A::ES256 => &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
        A::ES384 => &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
        A::EdDSA => {
            let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(rejected)?;
            return Ok(DecodingKey::from_ed_der(pair.public_key().as_ref()));
        }
        _ => {
            let pair = RsaKeyPair::from_pkcs8(der).or_else(|_| RsaKeyPair::from_der(der));
            let pair = pair.map_err(rejected)?;
            let public: PublicKeyComponents<Vec<u8>> = pair.public().into();
            return Ok(DecodingKey::from_rsa_raw_components(&public.n, &public.e));
        }
    };
    let pair = EcdsaKeyPair::from_pkcs8(curve, der, &SystemRandom::new()).map_err(rejected)?;
    Ok(DecodingKey::from_ec_der(pair.public_key().as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    fn pem(kind: &str, der: &[u8]) -> String {
        let lines = STANDARD.encode(der);
        let lines: Vec<&str> = lines
            .as_bytes()
            .chunks(64)
            .map(|line| std::str::from_utf8(line).expect("ASCII"))
            .collect();
        format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", lines.join("\n"))
    }

    /// DER: SubjectPublicKeyInfo of an algorithm, by its prefix.
    fn spki(prefix: &[u8], key: &[u8]) -> Vec<u8> {
        [prefix, key].concat()
    }

    const SPKI_P256: &[u8] = &[
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08,
        0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    ];
    const SPKI_ED25519: &[u8] =
        &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

    fn write(dir: &Path, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let file = dir.join(name);
        std::fs::write(&file, content).expect("a scratch file");
        file
    }

    /// Settings with fresh keys of an algorithm, in `dir`.
    fn settings(dir: &Path, name: &str) -> JwtSettings {
        let random = SystemRandom::new();
        let (private, public) = match name {
            "ES256" => {
                let kind = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
                let document = EcdsaKeyPair::generate_pkcs8(kind, &random).expect("a key");
                let pair = EcdsaKeyPair::from_pkcs8(kind, document.as_ref(), &random);
                let public = spki(SPKI_P256, pair.expect("a key").public_key().as_ref());
                (pem("PRIVATE KEY", document.as_ref()), pem("PUBLIC KEY", &public))
            }
            "EdDSA" => {
                let document = Ed25519KeyPair::generate_pkcs8(&random).expect("a key");
                let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("a key");
                let public = spki(SPKI_ED25519, pair.public_key().as_ref());
                (pem("PRIVATE KEY", document.as_ref()), pem("PUBLIC KEY", &public))
            }
            _ => ("a shared secret".to_owned(), String::new()),
        };
        let priv_key = Some(write(dir, &format!("{name}.key"), private));
        let pub_key = Some(write(dir, &format!("{name}.pub"), public));
        let algorithm = name.parse().expect("it is known");
        JwtSettings { pub_key, priv_key, algorithm, ttl: Duration::from_secs(60) }
    }

    #[test]
    fn what_is_signed_is_verified_by_each_kind_of_key() {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["ES256", "EdDSA", "HS256"] {
            let jwt = Jwt::load(&settings(dir.path(), name)).expect("good keys");
            let token = jwt.sign(b"ann", 7, 1_000).expect("a token");
            let credential = Credential::Signed { user: Bytes::from_static(b"ann"), revision: 7 };
            let left = Duration::from_secs(10);
            assert_eq!(jwt.verify(&token, 1_050), Ok((credential, left)), "{name}");
            assert_eq!(jwt.verify(&token, 1_060), Err(Denied::BadToken), "{name}: it is over");
            let mut other = token.clone();
            let last = other.pop().expect("it is long");
            other.push(if last == 'A' { 'Q' } else { 'A' });
            assert_eq!(jwt.verify(&other, 1_050), Err(Denied::BadToken), "{name}: tampered with");
        }
    }

    #[test]
    fn a_private_key_is_enough() {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["ES256", "EdDSA"] {
            let both = settings(dir.path(), name);
            let alone = JwtSettings { pub_key: None, ..both.clone() };
            let (both, alone) = (Jwt::load(&both).expect("good"), Jwt::load(&alone).expect("good"));
            let token = alone.sign(b"ann", 7, 1_000).expect("a token");
            assert!(alone.verify(&token, 1_050).is_ok(), "{name}");
            assert_eq!(both.verify(&token, 1_050), alone.verify(&token, 1_050), "{name}");
        }
        let text = Some(write(dir.path(), "text", "no key"));
        let garbage =
            JwtSettings { pub_key: None, priv_key: text, ..settings(dir.path(), "ES256") };
        assert!(matches!(Jwt::load(&garbage), Err(JwtError::Key { .. })));
    }

    /// `ring` makes no keys of RSA, so somebody else has to; of both forms of a private key.
    #[test]
    #[allow(clippy::print_stderr, reason = "a test that is skipped says so")]
    fn keys_of_rsa_are_read_in_both_forms() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = |name: &str| dir.path().join(name).display().to_string();
        let (key, old, public) = (file("key"), file("old"), file("public"));
        let openssl = |words: &str| {
            let output = std::process::Command::new("openssl").args(words.split(' ')).output();
            output.is_ok_and(|output| output.status.success())
        };
        if !openssl("version") {
            eprintln!("SKIPPED: openssl not found on PATH");
            return;
        }
        assert!(openssl(&format!("genpkey -algorithm RSA -out {key}")));
        assert!(openssl(&format!("rsa -in {key} -traditional -out {old}")));
        assert!(openssl(&format!("pkey -in {key} -pubout -out {public}")));
        let (priv_key, pub_key) = (Some(PathBuf::from(&key)), Some(PathBuf::from(&public)));
        let algorithm = "RS256".parse().expect("it is known");
        let both = JwtSettings { pub_key, priv_key, algorithm, ttl: Duration::from_secs(60) };
        let alone = JwtSettings { pub_key: None, ..both.clone() };
        let older = JwtSettings { priv_key: Some(old.into()), ..alone.clone() };
        let all = [both, alone, older].map(|settings| Jwt::load(&settings).expect("good keys"));
        for signer in &all {
            let token = signer.sign(b"ann", 7, 1_000).expect("a token");
            assert!(all.iter().all(|other| other.verify(&token, 1_050).is_ok()));
        }
    }

    #[test]
    fn the_token_does_not_choose_its_algorithm() {
        let dir = tempfile::tempdir().expect("a directory");
        let settings = settings(dir.path(), "ES256");
        let jwt = Jwt::load(&settings).expect("good keys");
        let claims = Claims { username: "root".to_owned(), revision: 7, exp: 2_000 };
        // The public key is known to everybody: it must not work as a shared secret.
        let public = std::fs::read(settings.pub_key.expect("given")).expect("written");
        let secret = EncodingKey::from_secret(&public);
        let header = Header::new(jsonwebtoken::Algorithm::HS256);
        let forged = jsonwebtoken::encode(&header, &claims, &secret).expect("a token");
        assert_eq!(jwt.verify(&forged, 1_000), Err(Denied::BadToken));
        let body = forged.split('.').nth(1).expect("three parts");
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
        assert_eq!(jwt.verify(&format!("{none}.{body}."), 1_000), Err(Denied::BadToken));
    }

    #[test]
    fn all_claims_must_be_there_and_of_their_types() {
        let dir = tempfile::tempdir().expect("a directory");
        let jwt = Jwt::load(&settings(dir.path(), "HS256")).expect("a secret");
        let secret = EncodingKey::from_secret(b"a shared secret");
        let header = Header::new(jsonwebtoken::Algorithm::HS256);
        for (claims, good) in [
            (r#"{"username":"ann","revision":7,"exp":2000}"#, true),
            (r#"{"username":"ann","revision":7,"exp":2000,"nbf":1}"#, true),
            (r#"{"username":"ann","revision":7}"#, false),
            (r#"{"username":"ann","exp":2000}"#, false),
            (r#"{"revision":7,"exp":2000}"#, false),
            (r#"{"username":"ann","revision":7,"exp":"2000"}"#, false),
            (r#"{"username":1,"revision":7,"exp":2000}"#, false),
            (r#"{"username":"ann","revision":-7,"exp":2000}"#, false),
        ] {
            let head =
                URL_SAFE_NO_PAD.encode(serde_json::to_vec(&header).expect("a header is JSON"));
            let signed = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims));
            let tag = jsonwebtoken::crypto::sign(signed.as_bytes(), &secret, header.alg);
            let token = format!("{signed}.{}", tag.expect("it signs"));
            assert_eq!(jwt.verify(&token, 1_000).is_ok(), good, "{claims}");
        }
    }

    #[test]
    fn options_are_etcds() {
        let duration = |text: &str| text.strip_suffix('s')?.parse().ok().map(Duration::from_secs);
        let parse = |text| JwtSettings::parse(text, duration);
        let parsed = parse("pub-key=p,priv-key=k,sign-method=RS256,ttl=90s").expect("good");
        assert_eq!((parsed.pub_key, parsed.priv_key), (Some("p".into()), Some("k".into())));
        assert_eq!(parsed.algorithm, Algorithm::Pair(jsonwebtoken::Algorithm::RS256));
        assert_eq!(parsed.ttl, Duration::from_secs(90));
        assert_eq!(parse("sign-method=HS256,priv-key=k").expect("good").ttl, TTL_DEFAULT);
        assert!(parse("sign-method=ES256,pub-key=p").expect("good").priv_key.is_none());
        for (text, wrong) in [
            ("", JwtError::Missing { name: "sign-method" }),
            ("sign-method=HS256", JwtError::Missing { name: "priv-key" }),
            ("sign-method=RS256", JwtError::Missing { name: "pub-key" }),
            ("sign-method=none", JwtError::Algorithm { name: "none".to_owned() }),
            ("ttl=5", JwtError::Ttl { text: "5".to_owned() }),
            ("ttl=0s", JwtError::Ttl { text: "0s".to_owned() }),
            ("key=k", JwtError::Option { text: "key=k".to_owned() }),
            ("pub-key", JwtError::Option { text: "pub-key".to_owned() }),
        ] {
            assert_eq!(parse(text), Err(wrong), "{text:?}");
        }
    }

    #[test]
    fn keys_that_do_not_fit_are_found_out_at_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let good = settings(dir.path(), "ES256");
        let missing = JwtSettings { pub_key: Some(dir.path().join("no")), ..good.clone() };
        assert!(matches!(Jwt::load(&missing), Err(JwtError::File { .. })));
        let other = settings(dir.path(), "EdDSA");
        let mixed = JwtSettings { priv_key: other.priv_key, ..good.clone() };
        assert!(matches!(Jwt::load(&mixed), Err(JwtError::Key { .. })));
        let public = std::fs::read(good.pub_key.clone().expect("given")).expect("written");
        let kept = write(dir.path(), "kept.pub", public);
        let fresh = settings(dir.path(), "ES256");
        let foreign = JwtSettings { pub_key: Some(kept), ..fresh };
        assert!(matches!(Jwt::load(&foreign), Err(JwtError::Key { .. })));
        let text = write(dir.path(), "text", "no key");
        let garbage = JwtSettings { pub_key: Some(text), ..good };
        assert!(matches!(Jwt::load(&garbage), Err(JwtError::Key { .. })));
    }
}
