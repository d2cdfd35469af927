use penstock::client::{Endpoint, Producer, Tls};
use std::path::Path;

/// Puts a record into `flights` at a server that has TLS, and was started with `--tls-self-signed` or with a certificate of that authority.
pub fn put_in_tls(address: &str, authority: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let endpoint = Endpoint::at(address).with_tls(Tls::of_authorities(authority)?);
    let producer = Producer::open(endpoint, "flights")?;
    producer.put("N14228", b"position 0")?.wait()?; // durable from here on
    producer.close();
    Ok(())
}
