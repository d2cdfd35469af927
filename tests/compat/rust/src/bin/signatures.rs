//! The server's verifier beside the SDK's signer: every published vector that the verifier is for, then random requests. Needs no server.

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4;
use penstock::auth::credentials::Access;
use penstock::auth::presented::SignedHead;
use penstock::auth::verify::{Check, DerivedKeys, Expected};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

const KEY: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
/// 2015-08-30T12:36:00Z, when all vectors were signed.
const NOW: u64 = 1_440_938_160;
const ROUNDS: u64 = 2_000;

/// Vectors that the verifier refuses on purpose, or that are for other services.
const NOT_OURS: [(&str, &str); 3] = [
    ("-unnormalized", "paths are normalised, as for every service but S3"),
    ("post-sts-header-after", "the session token was added behind the signature; here it must be signed"),
    ("double-", "has no context: neither time nor credentials are said"),
];

struct Request {
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    fn verify(&self, access: &Access, service: &'static str) -> Result<u16, String> {
        let headers: Vec<httparse::Header<'_>> =
            self.headers.iter().map(|(name, value)| httparse::Header { name, value: value.as_bytes() }).collect();
        let head = SignedHead { method: &self.method, path: &self.path, query: &self.query, headers: &headers };
        let expected = Expected { region: "us-east-1", service, now: NOW };
        let mut check =
            Check::begin(&head, access, &mut DerivedKeys::new(), &expected).map_err(|r| r.error.to_string())?;
        self.body.chunks(7).for_each(|piece| check.feed(piece));
        check.end().map_err(|refused| refused.error.to_string())
    }

    /// A request as the suite writes it down: a line may go on in the next one, a target may have blanks.
    fn parse(text: &str) -> Request {
        let (head, body) = text.split_once("\n\n").unwrap_or((text.trim_end(), ""));
        let mut lines = head.lines();
        let first = lines.next().expect("a request line");
        let (method, rest) = first.split_once(' ').expect("a method");
        let target = rest.strip_suffix(" HTTP/1.1").expect("a version");
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut headers: Vec<(String, String)> = Vec::new();
        for line in lines {
            match (line.strip_prefix([' ', '\t']), line.split_once(':')) {
                (None, Some((name, value))) => headers.push((name.to_owned(), value.to_owned())),
                (more, _) => {
                    let value = &mut headers.last_mut().expect("a header").1;
                    value.push(' ');
                    value.push_str(more.unwrap_or(line).trim());
                }
            }
        }
        Request { method: method.into(), path: path.into(), query: query.into(), headers, body: body.into() }
    }
}

fn access(token: Option<&str>) -> Access {
    let token = token.map_or(String::new(), |token| format!(",\"session_token\":\"{token}\""));
    let text =
        format!("{{\"users\":[{{\"name\":\"a\",\"keys\":[{{\"id\":\"{KEY}\",\"secret\":\"{SECRET}\"{token}}}]}}]}}");
    Access::parse(&text).expect("a good file")
}

/// The folder of the suite, in the sources of the signer that this was built with.
fn suite() -> Result<PathBuf, Box<dyn Error>> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let output = std::process::Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--locked", "--manifest-path"])
        .arg(manifest)
        .output()?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().ok_or("packages")?;
    let signer = packages.iter().find(|package| package["name"] == "aws-sigv4").ok_or("aws-sigv4 is not there")?;
    let manifest = signer["manifest_path"].as_str().ok_or("a path")?;
    Ok(Path::new(manifest).with_file_name("aws-signing-test-suite").join("v4"))
}

fn vectors() -> Result<(), Box<dyn Error>> {
    let (mut passed, mut failed) = (0, 0);
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(suite()?)?.map(|entry| Ok(entry?.path())).collect::<Result<_, std::io::Error>>()?;
    folders.sort();
    for folder in folders {
        let name = folder.file_name().and_then(|name| name.to_str()).ok_or("a name")?;
        if let Some((_, why)) = NOT_OURS.iter().find(|(part, _)| name.contains(part)) {
            println!("skipped {name}: {why}");
            continue;
        }
        let context: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(folder.join("context.json"))?)?;
        let access = access(context["credentials"]["token"].as_str());
        for form in ["header", "query"] {
            let request = Request::parse(&std::fs::read_to_string(folder.join(format!("{form}-signed-request.txt")))?);
            match request.verify(&access, "service") {
                Ok(_) => passed += 1,
                Err(why) => {
                    failed += 1;
                    println!("FAILED {name} ({form}): {why}");
                }
            }
        }
    }
    println!("{}: {passed} published vectors verified, {failed} failed", if failed == 0 { "passed" } else { "FAILED" });
    if failed > 0 || passed < 50 { Err("the verifier and the vectors differ".into()) } else { Ok(()) }
}

/// Numbers that look random, the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }

    fn text(&mut self, alphabet: &[&str], most: usize) -> String {
        (0..self.below(most + 1)).map(|_| alphabet[self.below(alphabet.len())]).collect()
    }
}

/// A request, signed by the SDK in one of both forms.
fn random(random: &mut Random) -> Result<Request, Box<dyn Error>> {
    let method = ["GET", "POST", "PUT"][random.below(3)].to_owned();
    let path = format!("/{}", random.text(&["a", "/", "B", "%20", "~", "-", ".", "..", "%C3%A9", "/./"], 8));
    let query = (0..random.below(4))
        .map(|_| {
            format!("{}k={}", random.text(&["a", "b", "%2F", "-"], 3), random.text(&["1", "z", "%20", "%7E", "."], 3))
        })
        .collect::<Vec<_>>()
        .join("&");
    let mut headers = vec![("host".to_owned(), "localhost:4567".to_owned())];
    for at in 0..random.below(4) {
        headers.push((format!("x-amz-h{at}"), format!("v{}w", random.text(&["a", " ", "  ", ",", "=", "\""], 6))));
    }
    let body = random.text(&["{", "}", "\u{e9}", "x", "\n"], 200).into_bytes();
    let mut settings = SigningSettings::default();
    if random.below(2) == 1 {
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(Duration::from_secs(60));
    }
    let identity = Credentials::new(KEY, SECRET, None, None, "test").into();
    let time = UNIX_EPOCH + Duration::from_secs(NOW);
    let builder = v4::SigningParams::builder().identity(&identity).region("us-east-1").name("kinesis").time(time);
    let params = builder.settings(settings).build()?.into();
    let uri = format!("http://localhost:4567{path}{}{query}", if query.is_empty() { "" } else { "?" });
    let pairs = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let (instructions, _) =
        sign(SignableRequest::new(&method, uri, pairs, SignableBody::Bytes(&body))?, &params)?.into_parts();
    headers.extend(instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())));
    let added = instructions.params().iter().map(|(name, value)| format!("{name}={}", percent(value)));
    let query =
        query.split('&').filter(|part| !part.is_empty()).map(str::to_owned).chain(added).collect::<Vec<_>>().join("&");
    Ok(Request { method, path, query, headers, body })
}

fn percent(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { (byte as char).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn oracle() -> Result<(), Box<dyn Error>> {
    let (access, mut numbers) = (access(None), Random(1));
    for round in 0..ROUNDS {
        let mut request = random(&mut numbers)?;
        let shown = format!("{} {}?{} {:?}", request.method, request.path, request.query, request.headers);
        request.verify(&access, "kinesis").map_err(|why| format!("round {round}: {why}: {shown}"))?;
        match numbers.below(4) {
            0 => request.body.push(b'!'),
            1 => request.headers[0].1.push('8'),
            2 => request.query.push_str("&z=1"),
            _ => request.method = "PATCH".to_owned(),
        }
        if request.verify(&access, "kinesis").is_ok() {
            return Err(format!("round {round}: an altered request was verified: {shown}").into());
        }
    }
    println!("passed: {ROUNDS} random requests verified, and refused when altered");
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    vectors()?;
    oracle()
}
