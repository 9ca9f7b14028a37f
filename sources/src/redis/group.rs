//! The consumer group: what Redis keeps of how far a source came. It is made where it should begin, and made again where it
//! was when somebody destroyed it or the stream.

use ::redis::aio::MultiplexedConnection;
use ::redis::{Cmd, RedisError, Value, cmd};

use super::connect::Peer;
use super::entry::{Id, Malformed, count, id_of, list, text};
use super::position::Memory;
use super::spec::{RedisStreamSource, Start};
use super::trouble::{is_gone, is_taken, malformed, trouble};
use crate::source::{About, SourceError};

/// How often a source follows a server that says that another one has the stream. In a cluster at rest it is once; while
/// slots move, a few times.
const MAX_HOPS: usize = 5;

/// A group of a stream, and this source's consumers in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// The stream.
    pub(super) stream: String,
    /// The group.
    pub(super) name: String,
    /// What the names of this source's consumers begin with, and of no other source's.
    identity: String,
    /// How many consumers read new entries.
    pub(super) readers: usize,
}

/// What Redis says about a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    /// The last entry that was handed to a consumer, or where the group began.
    pub(super) last_delivered: Id,
    /// How many entries were handed out and not acknowledged.
    pub(super) pending: u64,
    /// How many entries were not handed out yet. Servers before 7.0 do not know, newer ones not always; and what was removed
    /// unread may count for ever.
    pub(super) lag: Option<u64>,
    /// How many entries were handed out since the stream began; known as `lag` is.
    read: Option<u64>,
}

/// What Redis says about a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stream {
    /// The id of the entry that was added last; it stays when that entry is removed.
    last: Id,
    /// The first entry that is still there.
    first: Option<Id>,
    /// How many there are.
    length: Option<u64>,
    /// How many were added since the stream began; servers before 7.0 do not know.
    added: Option<u64>,
}

/// The connection on which everything is asked that Redis answers at once.
#[derive(Clone, Debug)]
pub(super) struct Control {
    /// The server that has the stream.
    pub(super) peer: Peer,
    connection: MultiplexedConnection,
}

impl Group {
    /// The group that a source wants, or has of its own.
    pub(super) fn of(spec: &RedisStreamSource, about: &About) -> Self {
        let mut identity = format!("{}-{}", about.namespace, about.name);
        if !about.uid.is_empty() {
            // A later source of the same name begins anew, and so does one of another mesh on the same server.
            identity = format!("{identity}-{}", about.uid);
        }
        let name = if spec.group.is_empty() { &identity } else { &spec.group };
        Self {
            stream: spec.stream.clone(),
            name: name.clone(),
            identity: identity.clone(),
            readers: spec.readers(),
        }
    }

    /// The name of a reader.
    pub(super) fn reader(&self, index: usize) -> String {
        format!("{}-{index}", self.identity)
    }

    /// The name of the consumer that takes over what others left.
    pub(super) fn heir(&self) -> String {
        format!("{}-claims", self.identity)
    }

    /// Whether a consumer is, or was, one of this source.
    pub(super) fn owns(&self, consumer: &str) -> bool {
        let rest = consumer.strip_prefix(self.identity.as_str());
        let number = rest.and_then(|rest| rest.strip_prefix('-')).unwrap_or_default();
        consumer == self.heir()
            || (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    }

    /// Whether a consumer is at work in this run of the source.
    pub(super) fn employs(&self, consumer: &str) -> bool {
        consumer == self.heir() || (0..self.readers).any(|index| consumer == self.reader(index))
    }

    /// A command about the stream.
    pub(super) fn command(&self, name: &str, subcommand: Option<&str>) -> Cmd {
        let mut command = cmd(name);
        if let Some(subcommand) = subcommand {
            command.arg(subcommand);
        }
        command.arg(&self.stream).take()
    }
}

impl Control {
    /// Connects to the server that has the stream. The answer says what is known about the group there; nothing if it, or the
    /// stream, is not there.
    ///
    /// # Errors
    /// When no such server can be reached.
    pub(super) async fn open(
        mut peer: Peer,
        group: &Group,
    ) -> Result<(Self, Option<State>), SourceError> {
        let mut hops = 0;
        loop {
            let connection = peer.connect(std::time::Duration::ZERO).await?;
            let mut control = Self { peer: peer.clone(), connection };
            match control.groups(group).await {
                Ok(state) => return Ok((control, state)),
                Err(Failure::Redis(error)) => match peer.moved(&error) {
                    Some(next) if hops < MAX_HOPS => (peer, hops) = (next, hops + 1),
                    _ => return Err(trouble("look for the consumer group", &error)),
                },
                Err(Failure::Malformed(error)) => {
                    return Err(malformed("look for the consumer group", error));
                }
            }
        }
    }

    /// Makes the group, where it was when `memory` tells, else at `start`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) async fn create(
        &mut self,
        group: &Group,
        memory: &Memory,
        start: Start,
    ) -> Result<(), SourceError> {
        let from = match memory.position() {
            Some(position) => self.again(group, position).await?.to_string(),
            None => match start {
                Start::Now => "$".to_owned(),
                // A group begins behind the id that it is made with.
                Start::At(id) => id.before().to_string(),
            },
        };
        let mut command = group.command("XGROUP", Some("CREATE"));
        command.arg(&group.name).arg(&from).arg("MKSTREAM");
        match self.ask(&command).await {
            Ok(_) => {
                tracing::info!(group = group.name, from, "the consumer group was made");
                Ok(())
            }
            Err(error) if is_taken(&error) => Ok(()),
            Err(error) => Err(trouble("make the consumer group", &error)),
        }
    }

    /// From where on a group is made again that came as far as `position`: ids only grow within a stream, so one that ends
    /// before it is another stream of that name, and all of it is new.
    async fn again(&mut self, group: &Group, position: Id) -> Result<Id, SourceError> {
        let stream = self.stream(group).await?;
        Ok(stream.filter(|stream| stream.last >= position).map_or(Id::ZERO, |_| position))
    }

    /// How many entries were ever removed from the stream before the group got to them, as far as Redis can tell.
    ///
    /// # Errors
    /// When it does not answer.
    pub(super) async fn unread(
        &mut self,
        group: &Group,
        state: State,
    ) -> Result<Option<u64>, SourceError> {
        if state.read.is_none() {
            return Ok(None);
        }
        let stream = self.stream(group).await?;
        Ok(stream.and_then(|stream| stream.removed_unread(state)))
    }

    /// How many entries wait to be handed out, if Redis knows.
    ///
    /// # Errors
    /// When it does not answer.
    pub(super) async fn lag(
        &mut self,
        group: &Group,
        state: State,
    ) -> Result<Option<u64>, SourceError> {
        if state.pending == 0
            && state.lag.is_some_and(|lag| lag > 0)
            && let Some(stream) = self.stream(group).await?
            && stream.last <= state.last_delivered
        {
            // It counts what was removed unread.
            return Ok(Some(0));
        }
        Ok(state.lag)
    }

    async fn stream(&mut self, group: &Group) -> Result<Option<Stream>, SourceError> {
        let what = "look at the stream";
        match self.ask(&group.command("XINFO", Some("STREAM"))).await {
            Ok(answer) => Stream::read(answer).map(Some).map_err(|error| malformed(what, error)),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(trouble(what, &error)),
        }
    }

    /// What is known about the group.
    ///
    /// # Errors
    /// When Redis does not answer, or has no such group.
    pub(super) async fn state(&mut self, group: &Group) -> Result<State, SourceError> {
        let what = "look at the consumer group";
        match self.groups(group).await {
            Ok(Some(state)) => Ok(state),
            Ok(None) => Err(gone(what)),
            Err(Failure::Redis(error)) if is_gone(&error) => Err(gone(what)),
            Err(Failure::Redis(error)) => Err(trouble(what, &error)),
            Err(Failure::Malformed(error)) => Err(malformed(what, error)),
        }
    }

    /// The oldest entry that was handed out and not acknowledged, to whomever.
    ///
    /// # Errors
    /// When Redis does not answer, or has no such group.
    pub(super) async fn oldest(&mut self, group: &Group) -> Result<Option<Id>, SourceError> {
        let what = "look at what is pending";
        let answer = self.tell(group.command("XPENDING", None).arg(&group.name), what).await?;
        let summary = list(answer).map_err(|error| malformed(what, error))?;
        match summary.into_iter().nth(1) {
            None | Some(Value::Nil) => Ok(None),
            Some(id) => id_of(id).map(Some).map_err(|error| malformed(what, error)),
        }
    }

    /// Tells Redis that entries are dealt with.
    ///
    /// # Errors
    /// When it does not answer; then they come again.
    pub(super) async fn acknowledge(
        &mut self,
        group: &Group,
        ids: &[Id],
    ) -> Result<(), SourceError> {
        let mut command = group.command("XACK", None);
        command.arg(&group.name);
        for id in ids {
            command.arg(id.to_string());
        }
        self.tell(&command, "acknowledge entries").await.map(drop)
    }

    /// Removes the group, with everything that is pending in it. One that is not there is removed already.
    ///
    /// # Errors
    /// When Redis does not do so.
    pub(super) async fn destroy(&mut self, group: &Group) -> Result<(), SourceError> {
        match self.ask(group.command("XGROUP", Some("DESTROY")).arg(&group.name)).await {
            Ok(_) => Ok(()),
            // XGROUP answers a missing stream with a sentence of its own.
            Err(error) if is_gone(&error) || is_missing_key(&error) => Ok(()),
            Err(error) => Err(trouble("remove the consumer group", &error)),
        }
    }

    /// Sends a command, and says what failed in the words of `what`.
    ///
    /// # Errors
    /// When Redis does not do it, or has no such group.
    pub(super) async fn tell(&mut self, command: &Cmd, what: &str) -> Result<Value, SourceError> {
        self.ask(command)
            .await
            .map_err(|error| if is_gone(&error) { gone(what) } else { trouble(what, &error) })
    }

    async fn ask(&mut self, command: &Cmd) -> Result<Value, RedisError> {
        command.query_async(&mut self.connection).await
    }

    /// The connection itself, for a reader that never waits.
    pub(super) fn connection(&self) -> MultiplexedConnection {
        self.connection.clone()
    }

    async fn groups(&mut self, group: &Group) -> Result<Option<State>, Failure> {
        match self.ask(&group.command("XINFO", Some("GROUPS"))).await {
            Ok(answer) => find(answer, &group.name).map_err(Failure::Malformed),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(Failure::Redis(error)),
        }
    }
}

impl Stream {
    fn read(answer: Value) -> Result<Self, Malformed> {
        let stream = list(answer)?;
        let last = field(&stream, "last-generated-id").cloned().ok_or(Malformed)?;
        let first = match field(&stream, "first-entry") {
            Some(Value::Array(entry)) => entry.first().cloned().map(id_of).transpose()?,
            _ => None,
        };
        let number = |name| field(&stream, name).and_then(count);
        let (length, added) = (number("length"), number("entries-added"));
        Ok(Self { last: id_of(last)?, first, length, added })
    }

    /// Of what was ever added, what the group passed by without reading it. That can be told while the group is at the end of
    /// the stream, and while everything that is there lies before it: then everything behind it was read or is gone.
    fn removed_unread(self, state: State) -> Option<u64> {
        let (added, read) = (self.added?, state.read?);
        if self.last <= state.last_delivered {
            Some(added.saturating_sub(read))
        } else if self.first.is_some_and(|first| first <= state.last_delivered) {
            None
        } else {
            Some(added.saturating_sub(self.length?).saturating_sub(read))
        }
    }
}

/// How asking for the groups failed.
enum Failure {
    Redis(RedisError),
    Malformed(Malformed),
}

/// The group was destroyed, or the stream with it. Starting the source again makes it again.
pub(super) fn gone(what: &str) -> SourceError {
    SourceError::Unavailable {
        what: format!(
            "{what}: the stream or its consumer group was removed; the group is made again where it was"
        ),
        source: None,
    }
}

/// What an answer to `XINFO GROUPS` says about a group.
pub(super) fn find(answer: Value, name: &str) -> Result<Option<State>, Malformed> {
    for group in list(answer)? {
        let group = list(group)?;
        let named = field(&group, "name").cloned().ok_or(Malformed)?;
        if !matches!(&named, Value::BulkString(bytes) if bytes == name.as_bytes()) {
            continue;
        }
        let number = |name| field(&group, name).and_then(count);
        let last = field(&group, "last-delivered-id").cloned().ok_or(Malformed)?;
        return Ok(Some(State {
            last_delivered: id_of(last)?,
            pending: number("pending").ok_or(Malformed)?,
            lag: number("lag"),
            read: number("entries-read"),
        }));
    }
    Ok(None)
}

/// The value of a name in a list of names and values in turn.
pub(super) fn field<'a>(pairs: &'a [Value], name: &str) -> Option<&'a Value> {
    let is_named = |value: &Value| text(value.clone()).is_ok_and(|text| text == name);
    pairs.chunks_exact(2).find_map(|pair| match pair {
        [key, value] if is_named(key) => Some(value),
        _ => None,
    })
}

fn is_missing_key(error: &RedisError) -> bool {
    error.detail().is_some_and(|detail| detail.contains("requires the key to exist"))
}

#[cfg(test)]
impl State {
    /// A group that came as far as this entry, and has nothing pending.
    pub(super) fn at(last_delivered: Id) -> Self {
        Self { last_delivered, pending: 0, lag: None, read: None }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::{Group, State, Stream, find};
    use crate::redis::RedisStreamSource;
    use crate::redis::entry::{Id, Malformed, tests::answer};
    use crate::source::{About, fake};

    pub(in super::super) fn group(name: &str, readers: i32) -> Group {
        let spec = RedisStreamSource {
            stream: "s".to_owned(),
            group: name.to_owned(),
            consumers: Some(readers),
            ..RedisStreamSource::default()
        };
        Group::of(&spec, &fake::about())
    }

    #[test]
    fn a_source_has_a_group_of_its_own_unless_it_names_one() {
        let uid = fake::about().uid;
        let own = group("", 1);
        assert_eq!(own.name, format!("default-one-{uid}"));
        assert_eq!(own.reader(0), format!("default-one-{uid}-0"));
        let shared = group("shared", 1);
        assert_eq!(shared.name, "shared");
        assert_eq!(shared.reader(1), format!("default-one-{uid}-1"));
        let without =
            Group::of(&RedisStreamSource::default(), &About { uid: "".into(), ..fake::about() });
        assert_eq!(without.name, "default-one");
    }

    #[test]
    fn a_source_knows_its_consumers() {
        let group = group("shared", 2);
        for (name, owned, employed) in [
            (group.reader(0), true, true),
            (group.reader(1), true, true),
            (group.reader(2), true, false),
            (group.heir(), true, true),
            (format!("{}-0", group.reader(0)), false, false),
            ("shared-0".to_owned(), false, false),
            (String::new(), false, false),
        ] {
            assert_eq!((group.owns(&name), group.employs(&name)), (owned, employed), "{name}");
        }
    }

    #[test]
    fn a_group_is_found_among_others() {
        let one = "*12\n$4\nname\n$1\na\n$9\nconsumers\n:1\n$7\npending\n:2\n\
                   $17\nlast-delivered-id\n$3\n2-1\n$12\nentries-read\n:2\n$3\nlag\n:5\n";
        let two = "*8\n$4\nname\n$1\nb\n$9\nconsumers\n:0\n$7\npending\n:0\n$17\nlast-delivered-id\n$3\n0-0\n";
        let answer = answer(&format!("*2\n{one}{two}"));
        let last_delivered = Id::parse("2-1").unwrap();
        let a = State { last_delivered, pending: 2, lag: Some(5), read: Some(2) };
        assert_eq!(find(answer.clone(), "a"), Ok(Some(a)));
        assert_eq!(find(answer.clone(), "b"), Ok(Some(State::at(Id::ZERO))));
        assert_eq!(find(answer, "c"), Ok(None));
    }

    #[test]
    fn what_was_removed_unread_is_known_when_all_that_is_there_is_ahead() {
        let id = |text: &str| Id::parse(text).unwrap();
        let stream = |first: Option<&str>| Stream {
            last: id("9-0"),
            first: first.map(id),
            length: Some(30),
            added: Some(500),
        };
        let state = State { read: Some(400), ..State::at(id("5-0")) };
        assert_eq!(stream(Some("6-0")).removed_unread(state), Some(70));
        assert_eq!(stream(None).removed_unread(state), Some(70));
        assert_eq!(stream(Some("5-0")).removed_unread(state), None);
        // At the end of the stream, whatever is there.
        let end = State { read: Some(480), ..State::at(id("9-0")) };
        assert_eq!(stream(Some("5-0")).removed_unread(end), Some(20));
        assert_eq!(stream(None).removed_unread(State::at(id("5-0"))), None);
        let all_read = State { read: Some(480), ..state };
        assert_eq!(stream(None).removed_unread(all_read), Some(0));
        let old = Stream { added: None, ..stream(None) };
        assert_eq!(old.removed_unread(state), None);
    }

    #[test]
    fn a_stream_is_read_with_and_without_entries() {
        let empty =
            answer("*6\n$6\nlength\n:0\n$17\nlast-generated-id\n$3\n5-3\n$11\nfirst-entry\n$-1\n");
        let last = Id::parse("5-3").unwrap();
        let expected = Stream { last, first: None, length: Some(0), added: None };
        assert_eq!(Stream::read(empty), Ok(expected));
        let one = answer(
            "*6\n$17\nlast-generated-id\n$3\n5-3\n$13\nentries-added\n:7\n\
             $11\nfirst-entry\n*2\n$3\n4-1\n*2\n$1\na\n$1\nb\n",
        );
        let first = Id::parse("4-1");
        assert_eq!(Stream::read(one), Ok(Stream { last, first, length: None, added: Some(7) }));
        assert_eq!(Stream::read(answer("*0\n")), Err(Malformed));
    }

    #[test]
    fn other_answers_are_refused() {
        for text in ["+OK\n", "*1\n:1\n", "*1\n*2\n$4\nname\n$1\na\n"] {
            assert_eq!(find(answer(text), "a"), Err(Malformed), "{text:?}");
        }
        let nil = "*1\n*6\n$4\nname\n$1\na\n$7\npending\n*-1\n$17\nlast-delivered-id\n$3\n2-1\n";
        assert_eq!(find(answer(nil), "a"), Err(Malformed));
    }
}
