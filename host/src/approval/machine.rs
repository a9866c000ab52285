//! The rules about one approval: who may decide, when it ends, and that it is used once. Time is handed in, and nothing here
//! waits, reads or writes.

use serde::{Deserialize, Serialize};

use super::{Need, Refusal, Risk};

/// Most reviews of one approval.
const MAX_REVIEWS: usize = 64;
/// A reviewer repeats at least so many hexadecimal digits of the digest.
const LEAST_DIGITS: usize = 12;

/// Where an approval stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// People may decide.
    Pending,
    /// The call may be made, once.
    Approved,
    /// Somebody who may decide said no.
    Rejected,
    /// Nobody decided in time, or the call was not made in time.
    Expired,
    /// It was taken back, or the rules became stricter after it was approved.
    Cancelled,
    /// The call was made.
    Consumed,
}

impl State {
    /// The word of the store and of answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Consumed => "consumed",
        }
    }

    /// Whether nothing can become of it any more.
    #[must_use]
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Pending | Self::Approved)
    }
}

/// Who asks or decides, as an authenticator established it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    pub subject: String,
    pub role: String,
    /// The door they came through.
    pub door: String,
}

/// What a person says about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Vote {
    Approve,
    Reject,
}

/// One person's decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Review {
    pub by: Person,
    pub vote: Vote,
    /// May be empty.
    pub note: String,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// The digest of what they saw, or its first digits.
    pub digest_seen: String,
}

/// One request for an approval, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// `appr_` and a UUID of version 7.
    pub id: String,
    pub state: State,
    /// Of the action.
    pub digest: String,
    pub requester: Person,
    /// All of them have to be met.
    pub needs: Vec<Need>,
    /// The generation of the configuration that asked.
    pub generation: u64,
    /// Milliseconds since 1970, as all times here.
    pub created_ms: u64,
    pub decide_by_ms: u64,
    /// Once it is approved.
    pub execute_by_ms: Option<u64>,
    pub reviews: Vec<Review>,
    /// The call that used it up.
    pub consumed_by: Option<String>,
    /// Why it was cancelled.
    pub ended_because: Option<String>,
    /// Until when the capability token holds that was handed out for it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_until_ms: Option<u64>,
}

impl Approval {
    /// A new request.
    #[must_use]
    pub fn new(
        id: String,
        digest: String,
        requester: Person,
        needs: Vec<Need>,
        generation: u64,
        now_ms: u64,
    ) -> Self {
        let patience = needs.iter().map(|need| need.decide_ms).min().unwrap_or(0);
        Self {
            id,
            state: State::Pending,
            digest,
            requester,
            needs,
            generation,
            created_ms: now_ms,
            decide_by_ms: now_ms.saturating_add(patience),
            execute_by_ms: None,
            reviews: Vec::new(),
            consumed_by: None,
            ended_because: None,
            token_until_ms: None,
        }
    }

    /// The highest risk that a guard sees.
    #[must_use]
    pub fn risk(&self) -> Risk {
        self.needs.iter().map(|need| need.risk).max().unwrap_or(Risk::High)
    }

    /// When the present state ends by itself, or, of a rejection, until when it holds.
    #[must_use]
    pub fn ends_ms(&self) -> u64 {
        self.execute_by_ms.filter(|_| self.state == State::Approved).unwrap_or(self.decide_by_ms)
    }

    /// Those whose approvals count, each once.
    #[must_use]
    pub fn approvers(&self) -> Vec<&str> {
        self.last_words()
            .filter(|review| review.vote == Vote::Approve)
            .map(|review| review.by.subject.as_str())
            .collect()
    }

    /// Ends it if its time is over. True if that changed something.
    pub fn tick(&mut self, now_ms: u64) -> bool {
        let over = !self.state.is_final() && now_ms >= self.ends_ms();
        if over {
            self.state = State::Expired;
        }
        over
    }

    /// Takes what a person decided. The same decision of the same person again changes nothing.
    ///
    /// # Errors
    /// `changed`, `self_approval`, `not_reviewer`, or what became of the request meanwhile.
    pub fn review(&mut self, review: Review) -> Result<State, Refusal> {
        self.tick(review.at_ms);
        if !is_digest(&self.digest, &review.digest_seen) {
            return Err(Refusal::new(
                "changed",
                format!(
                    "the digest is not that of {}: look at it with `approvals show`, and repeat the digest that is shown there, \
                     at least its first {LEAST_DIGITS} digits",
                    self.id
                ),
            ));
        }
        // A person is a person, whatever application, role or issuer they come with.
        if review.by.subject == self.requester.subject {
            return Err(Refusal::new(
                "self_approval",
                format!(
                    "{:?} asked for this, and nobody decides on their own request; give callers another name than those who \
                     decide ([auth] subject), or decide with the token of somebody else",
                    review.by.subject
                ),
            ));
        }
        let last = self.last_words().find(|last| last.by.subject == review.by.subject);
        if last.is_some_and(|last| last.vote == review.vote && last.by.role == review.by.role) {
            return Ok(self.state);
        }
        match self.state {
            State::Pending => {}
            State::Expired => return Err(self.over()),
            State::Approved | State::Rejected | State::Cancelled | State::Consumed => {
                return Err(Refusal::new(
                    "already_decided",
                    format!("{} is {} already, so it is too late to decide", self.id, self.state.as_str()),
                ));
            }
        }
        let groups = || self.needs.iter().flat_map(|need| &need.groups);
        if !groups().any(|group| group.takes(&review.by.role)) {
            let mut roles: Vec<&str> =
                groups().flat_map(|group| group.roles.iter().map(String::as_str)).collect();
            roles.sort_unstable();
            roles.dedup();
            return Err(Refusal::new(
                "not_reviewer",
                format!(
                    "the role {:?} does not decide on {}; those that do: {}",
                    review.by.role,
                    self.id,
                    roles.join(", ")
                ),
            ));
        }
        if self.reviews.len() >= MAX_REVIEWS {
            let text = format!("{} has {MAX_REVIEWS} reviews already", self.id);
            return Err(Refusal::new("already_decided", text));
        }
        let now_ms = review.at_ms;
        self.reviews.push(review);
        // A rejection counts before an approval.
        if self.needs.iter().any(|need| self.is_denied(need)) {
            self.state = State::Rejected;
        } else if self.needs.iter().all(|need| self.is_met(need)) {
            self.state = State::Approved;
            self.execute_by_ms = Some(now_ms.saturating_add(self.run_ms()));
        }
        Ok(self.state)
    }

    /// Uses it up for one call. What the guards want by now has to be met by the reviews that are there: if it became
    /// stricter, the approval ends.
    ///
    /// # Errors
    /// It is not approved, or not any more, or not for this.
    pub fn consume(&mut self, digest: &str, needs: &[Need], call: &str, now_ms: u64) -> Result<(), Refusal> {
        self.tick(now_ms);
        if digest != self.digest {
            return Err(Refusal::new(
                "changed",
                format!("{} was asked for another call: what is called now is not what it is for", self.id),
            ));
        }
        match self.state {
            State::Approved => {}
            State::Pending => {
                let text = format!("{} waits for a decision", self.id);
                return Err(Refusal::new("pending_approval", text));
            }
            State::Expired | State::Rejected | State::Cancelled | State::Consumed => return Err(self.over()),
        }
        if let Some(why) = self.why_stale(needs, now_ms) {
            self.state = State::Cancelled;
            let text = format!(
                "{} was approved, but the rules have changed since then: {why}; the same call asks anew",
                self.id
            );
            self.ended_because = Some(why);
            return Err(Refusal::new("stale_policy", text));
        }
        self.state = State::Consumed;
        self.consumed_by = Some(call.to_owned());
        Ok(())
    }

    /// Notes that a capability token for it is handed out, and gives the moment until which that holds: `most_ms` from now,
    /// and no longer than the approval. There is one such token at a time.
    ///
    /// # Errors
    /// It is not approved, or a token for it holds still.
    pub fn hand_out(&mut self, most_ms: u64, now_ms: u64) -> Result<u64, Refusal> {
        self.tick(now_ms);
        match self.state {
            State::Approved => {}
            State::Pending => {
                let text = format!("{} waits for a decision", self.id);
                return Err(Refusal::new("pending_approval", text));
            }
            State::Expired | State::Rejected | State::Cancelled | State::Consumed => return Err(self.over()),
        }
        if let Some(until_ms) = self.token_until_ms.filter(|until_ms| *until_ms > now_ms) {
            let left = (until_ms - now_ms).div_ceil(1_000);
            let text = format!(
                "a capability token for {} was handed out, and holds for {left} s more: use that one, or come again then",
                self.id
            );
            return Err(Refusal::new("token_issued", text));
        }
        let until_ms = now_ms.saturating_add(most_ms).min(self.ends_ms());
        self.token_until_ms = Some(until_ms);
        Ok(until_ms)
    }

    /// Takes it back.
    ///
    /// # Errors
    /// It has ended already.
    pub fn cancel(&mut self, why: &str, now_ms: u64) -> Result<(), Refusal> {
        self.tick(now_ms);
        if self.state.is_final() {
            return Err(self.over());
        }
        self.state = State::Cancelled;
        self.ended_because = Some(why.to_owned());
        Ok(())
    }

    /// Whether a decision about this is one about these needs as well: they see no higher risk, and people who are enough for
    /// this are enough for them.
    #[must_use]
    pub fn covers(&self, needs: &[Need]) -> bool {
        let enough = |own: &Need, new: &Need| {
            own.groups.iter().all(|own| new.groups.iter().any(|group| own.is_as_strict_as(group)))
        };
        needs.iter().all(|new| {
            self.needs.iter().any(|own| own.guard == new.guard && own.risk >= new.risk && enough(own, new))
        })
    }

    /// Why nothing becomes of it any more.
    #[must_use]
    pub fn over(&self) -> Refusal {
        let id = &self.id;
        let (reason, message) = match self.state {
            State::Pending | State::Approved => {
                ("pending_approval", format!("{id} is {}", self.state.as_str()))
            }
            State::Rejected => ("rejected", self.rejection()),
            State::Expired if self.execute_by_ms.is_some() => {
                ("expired", format!("{id} was approved, and not used in time"))
            }
            State::Expired => ("expired", format!("nobody decided on {id} in time")),
            State::Cancelled => (
                "cancelled",
                format!(
                    "{id} was cancelled: {}",
                    self.ended_because.as_deref().unwrap_or("no reason was given")
                ),
            ),
            State::Consumed => {
                let by = self.consumed_by.as_deref().unwrap_or("another call");
                ("consumed", format!("{id} was used up by the call {by}: an approval is for one call"))
            }
        };
        Refusal::new(reason, message)
    }

    /// How long after the approval it may run, in milliseconds.
    fn run_ms(&self) -> u64 {
        self.needs.iter().map(|need| need.run_ms).min().unwrap_or(0)
    }

    fn rejection(&self) -> String {
        let last = self.last_words().filter(|review| review.vote == Vote::Reject).last();
        let who = last.map_or("somebody", |review| review.by.subject.as_str());
        match last.map(|review| review.note.as_str()).filter(|note| !note.is_empty()) {
            Some(note) => format!("{} was rejected by {who:?}: {note}", self.id),
            None => format!("{} was rejected by {who:?}", self.id),
        }
    }

    /// What is stricter now than when people decided.
    fn why_stale(&self, needs: &[Need], now_ms: u64) -> Option<String> {
        let seen = self.risk();
        let approved_ms = self.execute_by_ms.unwrap_or(0).saturating_sub(self.run_ms());
        for need in needs {
            if now_ms >= approved_ms.saturating_add(need.run_ms) {
                return Some(format!("{} wants it to run sooner after the approval now", need.guard));
            }
            if need.risk > seen {
                return Some(format!("{} sees a higher risk now ({})", need.guard, need.risk.as_str()));
            }
            if !self.is_met(need) || self.is_denied(need) {
                return Some(format!("{} wants other people to approve it now", need.guard));
            }
        }
        None
    }

    /// Each person's last word, in the order in which they came first.
    fn last_words(&self) -> impl Iterator<Item = &Review> {
        let is_last = |index: usize, review: &Review| {
            !self.reviews[index + 1..].iter().any(|later| later.by.subject == review.by.subject)
        };
        self.reviews
            .iter()
            .enumerate()
            .filter(move |(index, review)| is_last(*index, review))
            .map(|(_, it)| it)
    }

    fn count(&self, group: &super::Group, vote: Vote) -> u32 {
        let counted =
            self.last_words().filter(|review| review.vote == vote && group.takes(&review.by.role)).count();
        u32::try_from(counted).unwrap_or(u32::MAX)
    }

    fn is_met(&self, need: &Need) -> bool {
        need.groups.iter().any(|group| self.count(group, Vote::Approve) >= group.approve)
    }

    fn is_denied(&self, need: &Need) -> bool {
        need.groups.iter().any(|group| self.count(group, Vote::Reject) >= group.deny)
    }
}

/// Whether somebody repeats a digest, or enough of its beginning.
fn is_digest(digest: &str, seen: &str) -> bool {
    let hex = |text: &'_ str| text.strip_prefix("sha256:").unwrap_or(text).to_ascii_lowercase();
    let (whole, seen) = (hex(digest), hex(seen.trim()));
    seen.len() >= LEAST_DIGITS && whole.starts_with(&seen)
}
