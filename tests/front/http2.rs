//! A client of HTTP/2: the client's half of `h2`, polled in every turn.

use crate::core::{Kind, Wanted};
use crate::pipe::Pipe;
use crate::random::Random;
use bytes::Bytes;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Version};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

type Open = (SendRequest<Bytes>, Connection<Pipe, Bytes>);
type Greeting = Pin<Box<dyn Future<Output = Result<Open, h2::Error>>>>;

/// A request, and how it goes on.
pub struct Ask {
    pub wanted: Wanted,
    body: Vec<u8>,
    /// The head says how long the body is.
    sized: bool,
    /// The client takes it back when so many bytes of it, and of its answer, have gone.
    given_up_at: Option<usize>,
    going: Option<Going>,
    pub end: Option<Outcome>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The answer is whole, and is or is not what it should be.
    Whole {
        right: bool,
    },
    GivenUp,
    Failed(String),
}

struct Going {
    response: Option<ResponseFuture>,
    send: Option<SendStream<Bytes>>,
    sent: usize,
    receive: Option<RecvStream>,
    got: Vec<u8>,
}

pub struct Http2 {
    greeting: Option<Greeting>,
    send: Option<SendRequest<Bytes>>,
    connection: Option<Connection<Pipe, Bytes>>,
    pub asks: Vec<Ask>,
    /// Requests at once.
    together: usize,
    /// How soon answers are read, in parts of 1,000 turns.
    eager: u32,
    random: Random,
    pub is_over: bool,
    pub error: Option<String>,
    /// Requests that the server had no room for.
    pub refused: usize,
}

impl Ask {
    pub fn new(wanted: Wanted, body: Vec<u8>, random: &mut Random) -> Ask {
        let most = body.len() + wanted.len;
        let given_up_at = random.chance(100).then(|| random.index(most + 1));
        Ask { wanted, body, sized: random.chance(500), given_up_at, going: None, end: None }
    }

    /// Whether it must come to a whole answer, if nobody disturbs.
    pub fn must_be_whole(&self) -> bool {
        matches!(self.wanted.kind, Kind::Sized | Kind::Chunked) && self.given_up_at.is_none()
    }

    pub fn state(&self) -> String {
        let going = self.going.as_ref().map(|going| (going.sent, going.got.len()));
        format!("{:?} with {}, sent and got {going:?}, {:?}", self.wanted, self.body.len(), self.end)
    }

    pub fn surely(mut self) -> Ask {
        self.given_up_at = None;
        self
    }

    fn begin(&mut self, send: &mut SendRequest<Bytes>) -> Result<(), h2::Error> {
        let builder = Request::post(format!("http://localhost{}", self.wanted.path())).version(Version::HTTP_2);
        let builder = match self.sized {
            true => builder.header("content-length", self.body.len()),
            false => builder,
        };
        let request = builder.header("x-something", "y".repeat(self.wanted.id as usize % 90)).body(());
        let ends = self.body.is_empty() && self.wanted.id.is_multiple_of(2);
        let (response, stream) = send.send_request(request.expect("a request is well formed"), ends)?;
        let send = (!ends).then_some(stream);
        self.going = Some(Going { response: Some(response), send, sent: 0, receive: None, got: Vec::new() });
        Ok(())
    }

    /// Goes on as far as it can; an error is the stream's.
    fn go_on(&mut self, context: &mut Context<'_>, reads: bool, random: &mut Random) -> Result<(), h2::Error> {
        let Some(going) = &mut self.going else { return Ok(()) };
        if self.given_up_at.is_some_and(|at| going.sent + going.got.len() >= at) {
            going.send.iter_mut().for_each(|send| send.send_reset(Reason::CANCEL));
            (self.going, self.end) = (None, Some(Outcome::GivenUp));
            return Ok(());
        }
        going.send(context, &self.body, random)?;
        if let Some(response) = &mut going.response
            && let Poll::Ready(response_now) = Pin::new(response).poll(context)
        {
            let answer = response_now?;
            let id = answer.headers().get("x-id").and_then(|id| id.to_str().ok()?.parse::<u64>().ok());
            if answer.status() != 200 || id != Some(self.wanted.id) {
                (self.going, self.end) = (None, Some(Outcome::Whole { right: false }));
                return Ok(());
            }
            (going.response, going.receive) = (None, Some(answer.into_body()));
        }
        while reads && let Some(receive) = &mut going.receive {
            let Poll::Ready(data) = receive.poll_data(context) else { break };
            let Some(data) = data.transpose()? else {
                let right = going.got == self.wanted.answer(&self.body);
                (self.going, self.end) = (None, Some(Outcome::Whole { right }));
                break;
            };
            going.got.extend_from_slice(&data);
            receive.flow_control().release_capacity(data.len())?;
        }
        Ok(())
    }
}

impl Going {
    fn send(&mut self, context: &mut Context<'_>, body: &[u8], random: &mut Random) -> Result<(), h2::Error> {
        while let Some(send) = &mut self.send {
            let rest = &body[self.sent..];
            if rest.is_empty() {
                match random.chance(300) {
                    true => send.send_trailers(http::HeaderMap::new())?,
                    false => send.send_data(Bytes::new(), true)?,
                }
                self.send = None;
                break;
            }
            send.reserve_capacity(rest.len());
            if send.capacity() == 0 && send.poll_capacity(context).is_pending() || send.capacity() == 0 {
                break;
            }
            let most = rest.len().min(send.capacity());
            let len = if random.chance(300) { 1 + random.index(most.min(20)) } else { most };
            let ends = len == rest.len() && random.chance(700);
            send.send_data(Bytes::copy_from_slice(&rest[..len]), ends)?;
            self.sent += len;
            if ends {
                self.send = None;
            }
        }
        Ok(())
    }
}

impl Http2 {
    pub fn new(pipe: Pipe, asks: Vec<Ask>, mut random: Random) -> Http2 {
        let mut builder = Builder::new();
        let most = asks.iter().map(|ask| ask.wanted.len).max().unwrap_or(0);
        // An answer that goes byte by byte takes a while.
        let least = if most < 400 { 1 } else { 2_000 };
        builder.initial_window_size(*random.pick(&[least, 10_000, 65_535, 1 << 20]));
        builder.initial_connection_window_size(*random.pick(&[65_535, 100_000, 1 << 22]));
        builder.max_frame_size(*random.pick(&[16_384, 100_000]));
        if random.chance(200) {
            builder.header_table_size(random.below(5_000) as u32);
        }
        let greeting: Greeting = Box::pin(async move { builder.handshake::<_, Bytes>(pipe).await });
        let together = random.between(1, asks.len().max(1) as u64) as usize;
        let eager = *random.pick(&[1000, 500, 100]);
        Http2 {
            greeting: Some(greeting),
            send: None,
            connection: None,
            asks,
            together,
            eager,
            random,
            is_over: false,
            error: None,
            refused: 0,
        }
    }

    /// All at once, read at once.
    pub fn eager(mut self) -> Http2 {
        (self.together, self.eager) = (usize::MAX, 1000);
        self
    }

    pub fn step(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        if let Some(greeting) = &mut self.greeting
            && let Poll::Ready(greeted) = greeting.as_mut().poll(&mut context)
        {
            self.greeting = None;
            match greeted {
                Ok((send, connection)) => (self.send, self.connection) = (Some(send), Some(connection)),
                Err(error) => self.fail(format!("{error}")),
            }
        }
        for _ in 0..2 {
            self.poll_connection(&mut context);
            self.poll_asks(&mut context);
        }
        self.poll_connection(&mut context);
        if self.asks.iter().all(|ask| ask.end.is_some()) {
            // Without anybody who may ask the connection ends.
            self.send = None;
        }
    }

    fn fail(&mut self, error: String) {
        (self.is_over, self.error) = (true, Some(error));
    }

    fn poll_connection(&mut self, context: &mut Context<'_>) {
        let Some(connection) = &mut self.connection else { return };
        if let Poll::Ready(ended) = Pin::new(connection).poll(context) {
            self.connection = None;
            match ended {
                Ok(()) => self.is_over = true,
                Err(error) => self.fail(format!("{error}")),
            }
        }
    }

    fn poll_asks(&mut self, context: &mut Context<'_>) {
        let reads = self.random.chance(self.eager);
        let mut going = self.asks.iter().filter(|ask| ask.going.is_some()).count();
        for ask in self.asks.iter_mut().filter(|ask| ask.end.is_none()) {
            if ask.going.is_none() && going < self.together {
                let Some(send) = &mut self.send else { continue };
                match send.poll_ready(context) {
                    Poll::Ready(Ok(())) if ask.begin(send).is_ok() => going += 1,
                    Poll::Ready(Err(error)) => ask.end = Some(Outcome::Failed(format!("{error}"))),
                    _ => {}
                }
            }
            match ask.go_on(context, reads, &mut self.random) {
                Ok(()) => {}
                // The server has done nothing for it, and it is asked again.
                Err(error) if error.reason() == Some(Reason::REFUSED_STREAM) && error.is_remote() => {
                    self.refused += 1;
                    ask.going = None;
                }
                Err(error) => (ask.going, ask.end) = (None, Some(Outcome::Failed(format!("{error}")))),
            }
        }
    }
}
