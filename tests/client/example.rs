use penstock::client::{Consumer, Endpoint, Event, Producer, Start};
use std::time::Duration;

/// Puts three records into `flights`, reads them, and gives what a later start would go on from.
pub fn put_and_read(address: &str) -> Result<String, Box<dyn std::error::Error>> {
    let endpoint = Endpoint::at(address);
    let producer = Producer::open(endpoint.clone(), "flights")?;
    let mut tickets = Vec::new();
    for n in 0..3 {
        tickets.push(producer.put("N14228", format!("position {n}").as_bytes())?);
    }
    for ticket in tickets {
        let placed = ticket.wait()?; // durable from here on
        println!("record {} of shard {}", placed.sequence, placed.shard);
    }
    producer.close();

    let mut consumer = Consumer::open(endpoint, "flights", Start::Oldest)?;
    let mut read = 0;
    while read < 3 {
        if let Some(Event::Batch(batch)) = consumer.next(Duration::from_secs(10))? {
            for record in batch.records() {
                println!("{:?}: {:?}", record.key, record.data);
                read += 1;
            }
        }
    }
    // To be kept, and given to `Consumer::resume`.
    Ok(consumer.position().to_string())
}
