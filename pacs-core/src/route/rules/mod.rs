//! [`Rules`]: a router by data, as configuration files have it.

mod conditions;
mod time;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, de};

pub use self::conditions::{Conditions, Wanted};
use self::conditions::{is_kept, matches, top_level};
pub use self::time::{Day, Hours, LocalTime};
use super::{Changes, Delivery, Occasion, Priority, Router, Trigger};
use crate::archive::Timestamp;
use crate::dataset::{DataSet, Element, standard_vr};
use crate::error::Result;
use crate::limits;

/// What holds of an occasion, and where that leads. The keys of a file are the fields' names, with hyphens.
///
/// Every condition must hold, and one that is not there holds. A condition on an attribute is one of a query (PS3.4
/// C.2.2.2): wild cards, ranges of dates, UIDs; of several values any.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rule {
    /// What people call it.
    #[serde(deserialize_with = "not_empty")]
    pub name: String,
    /// What must have happened.
    #[serde(default = "instance_stored", deserialize_with = "trigger")]
    pub on: Trigger,
    /// It is about what was fetched ([`Occasion::fetched`]), and about nothing else; without it, about all that was
    /// not.
    #[serde(default)]
    pub fetched: bool,
    /// What must match, by keyword; `Sequence.Keyword` for what stands in a sequence. Of an order it is an item of the
    /// worklist that must match (PS3.4 table K.6-1), so there a modality is `ScheduledProcedureStepSequence.Modality`.
    #[serde(default)]
    pub when: Conditions,
    /// What must not match: no rule applies where all of it does.
    #[serde(default)]
    pub unless: Conditions,
    /// Calling AE titles of the sender, with wild cards.
    #[serde(default, deserialize_with = "patterns")]
    pub from_ae: Vec<Wanted>,
    /// AE titles that the sender called, with wild cards.
    #[serde(default, deserialize_with = "patterns")]
    pub to_ae: Vec<Wanted>,
    /// Network addresses of the sender, with wild cards.
    #[serde(default, deserialize_with = "patterns")]
    pub from_address: Vec<Wanted>,
    /// From when to when in the day, `HH:MM-HH:MM`; it may reach over midnight.
    #[serde(default)]
    pub hours: Option<Hours>,
    /// On which days of the week.
    #[serde(default)]
    pub days: Vec<Day>,
    /// To whom the instances are sent.
    #[serde(default, deserialize_with = "names")]
    pub send_to: Vec<Arc<str>>,
    /// Who is told of it.
    #[serde(default, deserialize_with = "names")]
    pub tell: Vec<Arc<str>>,
    /// How urgent that is.
    #[serde(default, deserialize_with = "priority")]
    pub priority: Priority,
    /// Values that attributes of the instances get on the way, by keyword; `""` takes the value away.
    #[serde(default)]
    set: BTreeMap<String, String>,
    /// Attributes that are left out on the way, by keyword.
    #[serde(default)]
    remove: Vec<String>,
    /// Where it applies, the rules behind it are not asked.
    #[serde(default)]
    pub last: bool,
    /// Made of `set` and `remove`.
    #[serde(skip)]
    changes: Option<Arc<Changes>>,
}

fn instance_stored() -> Trigger {
    Trigger::InstanceStored
}

/// One condition of a rule, and whether it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// What it is about, as the file names it.
    pub condition: String,
    /// Whether it holds.
    pub holds: bool,
}

impl Rule {
    /// One that applies to every instance that is stored.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            on: Trigger::InstanceStored,
            fetched: false,
            when: Conditions::default(),
            unless: Conditions::default(),
            from_ae: Vec::new(),
            to_ae: Vec::new(),
            from_address: Vec::new(),
            hours: None,
            days: Vec::new(),
            send_to: Vec::new(),
            tell: Vec::new(),
            priority: Priority::default(),
            set: BTreeMap::new(),
            remove: Vec::new(),
            last: false,
            changes: None,
        }
    }

    /// Only what matches these keys.
    #[must_use]
    pub fn when(mut self, keys: DataSet) -> Self {
        self.when = Conditions::new(keys);
        self
    }

    /// Its instances go to this destination, too.
    #[must_use]
    pub fn send_to(mut self, destination: impl Into<Arc<str>>) -> Self {
        self.send_to.push(destination.into());
        self
    }

    /// With these changes on the way.
    #[must_use]
    pub fn changing(mut self, changes: Changes) -> Self {
        self.changes = (!changes.is_empty()).then(|| Arc::new(changes));
        self
    }

    /// What is changed on the way.
    pub fn changes(&self) -> Option<&Arc<Changes>> {
        self.changes.as_ref()
    }

    /// Each condition, and whether it holds.
    ///
    /// # Errors
    /// When the instance can't be read.
    pub fn check(&self, occasion: &Occasion<'_>, at: LocalTime) -> Result<Vec<Checked>> {
        let mut checked = Vec::new();
        self.walk(occasion, at, &mut |condition, holds| {
            let condition = condition.to_string();
            checked.push(Checked { condition, holds });
            true
        })?;
        Ok(checked)
    }

    /// Whether every condition holds. The first that doesn't decides: what it takes to look at the others is saved.
    fn applies(&self, occasion: &Occasion<'_>, at: LocalTime) -> Result<bool> {
        let mut all = true;
        self.walk(occasion, at, &mut |_, holds| {
            all &= holds;
            all
        })?;
        Ok(all)
    }

    /// Looks at the conditions until `see` has seen enough; the cheap ones come first, those last that the instance is
    /// read for.
    fn walk(
        &self,
        occasion: &Occasion<'_>,
        at: LocalTime,
        see: &mut dyn FnMut(fmt::Arguments<'_>, bool) -> bool,
    ) -> Result<()> {
        if !see(format_args!("on {}", self.on), self.on == occasion.trigger) {
            return Ok(());
        }
        let goes_on = match (self.fetched, occasion.fetched) {
            (true, fetched) => see(format_args!("fetched"), fetched),
            (false, true) => see(format_args!("not fetched"), false),
            (false, false) => true,
        };
        if !goes_on {
            return Ok(());
        }
        let source = occasion.source;
        let address = source.address.map(|address| address.ip().to_string());
        for (name, wanted, found) in [
            (
                "from-ae",
                &self.from_ae,
                source.calling_ae.as_ref().map(crate::AeTitle::as_str),
            ),
            (
                "to-ae",
                &self.to_ae,
                source.called_ae.as_ref().map(crate::AeTitle::as_str),
            ),
            ("from-address", &self.from_address, address.as_deref()),
        ] {
            let holds = || found.is_some_and(|found| wanted.iter().any(|one| one.matches(found)));
            if !wanted.is_empty() && !see(format_args!("{name}"), holds()) {
                return Ok(());
            }
        }
        if let Some(hours) = &self.hours
            && !see(format_args!("hours"), hours.holds(at))
        {
            return Ok(());
        }
        let is_day = || self.days.iter().any(|day| *day as u8 == at.weekday);
        if !self.days.is_empty() && !see(format_args!("days"), is_day()) {
            return Ok(());
        }
        for is_read in [false, true] {
            let each = self.when.each.iter();
            for (condition, key) in each.filter(|(_, key)| is_kept(key, occasion) != is_read) {
                if !see(format_args!("when {condition}"), matches(key, occasion)?) {
                    return Ok(());
                }
            }
        }
        if !self.unless.each.is_empty() {
            let mut all = true;
            for (_, key) in &self.unless.each {
                all = all && matches(key, occasion)?;
            }
            see(format_args!("unless"), !all);
        }
        Ok(())
    }

    fn deliveries(&self) -> impl Iterator<Item = Delivery> + '_ {
        let sent = self.send_to.iter().map(|name| (name, false));
        let told = self.tell.iter().map(|name| (name, true));
        sent.chain(told).map(|(name, tells)| Delivery {
            destination: Arc::clone(name),
            tells,
            priority: self.priority,
            changes: self.changes.clone().filter(|_| !tells),
        })
    }

    /// Makes the changes of `set` and `remove`.
    fn prepare(&mut self) -> Result<(), String> {
        let named = |name: &str, why: &str| format!("the rule {:?}: {name}: {why}", self.name);
        let tag = |name: &str| top_level(name).map_err(|why| named(name, &why));
        let mut changes = Changes::default();
        for (name, value) in &self.set {
            let tag = tag(name)?;
            let vr = standard_vr(tag).ok_or_else(|| named(name, "the attribute is not known"))?;
            let element = Element::from_text(tag, vr, value).map_err(|error| named(name, error.context()))?;
            changes.set.put(element);
        }
        for name in &self.remove {
            changes.remove.push(tag(name)?);
        }
        changes
            .check()
            .map_err(|error| named("set or remove", error.context()))?;
        if self.changes.is_none() {
            self.changes = (!changes.is_empty()).then(|| Arc::new(changes));
        }
        if self.send_to.is_empty() && self.tell.is_empty() && !self.last {
            return Err(format!(
                "the rule {:?} leads nowhere: send-to or tell is missing",
                self.name
            ));
        }
        if self.on == Trigger::OrderPlaced && (self.fetched || !self.send_to.is_empty()) {
            return Err(format!(
                "the rule {:?}: of an order there is nothing yet to send or to fetch: it can only be told",
                self.name
            ));
        }
        if self.send_to.is_empty() && self.changes.is_some() {
            return Err(format!(
                "the rule {:?} changes what it sends to nobody",
                self.name
            ));
        }
        Ok(())
    }
}

/// A router by rules: every rule that applies counts, in their order.
#[derive(Clone)]
pub struct Rules {
    rules: Arc<[Rule]>,
    clock: fn(Timestamp) -> LocalTime,
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules")
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

impl Rules {
    /// From the rules, in the order in which they are asked. Times of the day are those of UTC.
    ///
    /// # Errors
    /// Which rule can't mean anything, and why: fit to be shown.
    pub fn new(mut rules: Vec<Rule>) -> Result<Self, String> {
        for rule in &mut rules {
            rule.prepare()?;
        }
        Ok(Self {
            rules: rules.into(),
            clock: LocalTime::utc,
        })
    }

    /// With the clock of the place.
    #[must_use]
    pub fn with_clock(mut self, clock: fn(Timestamp) -> LocalTime) -> Self {
        self.clock = clock;
        self
    }

    /// The rules in their order.
    pub fn each(&self) -> &[Rule] {
        &self.rules
    }

    /// Each rule that is asked, with what of it holds: up to and with the first that applies and is the last.
    ///
    /// # Errors
    /// When the instance can't be read.
    pub fn explain(&self, occasion: &Occasion<'_>) -> Result<Vec<(&Rule, Vec<Checked>)>> {
        let at = (self.clock)(occasion.at);
        let mut asked = Vec::new();
        for rule in self.rules.iter() {
            let checked = rule.check(occasion, at)?;
            let ends = rule.last && checked.iter().all(|checked| checked.holds);
            asked.push((rule, checked));
            if ends {
                break;
            }
        }
        Ok(asked)
    }
}

impl Router for Rules {
    fn route(&self, occasion: &Occasion<'_>) -> Result<Vec<Delivery>> {
        let at = (self.clock)(occasion.at);
        let mut deliveries: Vec<Delivery> = Vec::new();
        for rule in self.rules.iter() {
            if !rule.applies(occasion, at)? {
                continue;
            }
            for delivery in rule.deliveries() {
                let known = |known: &&mut Delivery| {
                    known.destination == delivery.destination && known.tells == delivery.tells
                };
                match deliveries.iter_mut().find(known) {
                    // The most urgent of the rules decides when.
                    Some(known) => known.priority = known.priority.min(delivery.priority),
                    None => deliveries.push(delivery),
                }
            }
            if rule.last {
                break;
            }
        }
        Ok(deliveries)
    }

    fn wants(&self, trigger: Trigger) -> bool {
        self.rules.iter().any(|rule| rule.on == trigger)
    }

    fn wants_fetched(&self) -> bool {
        self.rules.iter().any(|rule| rule.fetched)
    }
}

fn not_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.is_empty() {
        true => Err(de::Error::custom("a name must stand here")),
        false => Ok(text),
    }
}

fn trigger<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Trigger, D::Error> {
    let text = String::deserialize(deserializer)?;
    Trigger::parse(&text).ok_or_else(|| {
        let names: Vec<_> = Trigger::ALL.iter().map(|trigger| trigger.as_str()).collect();
        de::Error::custom(format_args!("one of {} is needed", names.join(", ")))
    })
}

fn priority<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Priority, D::Error> {
    let text = String::deserialize(deserializer)?;
    Priority::parse(&text).ok_or_else(|| de::Error::custom("one of stat, high, medium, low is needed"))
}

fn patterns<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Wanted>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    Ok(texts.into_iter().map(Wanted::new).collect())
}

fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Arc<str>>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    match names
        .iter()
        .all(|name| (1..=limits::DESTINATION_NAME_LENGTH_MAX_BYTES).contains(&name.len()))
    {
        true => Ok(names.into_iter().map(Arc::from).collect()),
        false => Err(de::Error::custom("a destination's name has 1 to 64 bytes")),
    }
}
