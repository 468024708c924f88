//! A DICOM Conformance Statement in Markdown, made from what is set up and from what the code itself decides by.
//!
//! Its shape is that of PS3.2 annex N, the template of 2024: overview, introduction, implementation model, services,
//! network details, security, annexes. Nothing is listed twice: what is accepted comes from
//! [`scp::accept_policy`](crate::scp::accept_policy) and [`scp::storage_classes`](crate::scp::storage_classes), names
//! from the dictionary, attributes from the [`AttributeSet`], statuses from the conversion of errors
//! ([`Reply::from_error`](crate::dimse::Reply::from_error)), limits from [`pacs_core::limits`], DICOMweb from its own
//! capabilities. So a service that a policy accepts is in the statement, whether or not somebody thought of it.
//!
//! ```
//! use pacs_core::AeTitle;
//! use pacs_core::query::AttributeSet;
//! use pacs_net::conformance::Statement;
//! use pacs_net::scp::{Limits, ScpOptions};
//!
//! let options = ScpOptions::new(AeTitle::parse("ARCHIVE")?);
//! let (attributes, limits) = (AttributeSet::default(), Limits::default());
//! let text = Statement::new("Product", "1.0", &options, limits, &attributes).to_markdown();
//! assert!(text.contains("CT Image Storage") && text.contains("ARCHIVE"));
//! # Ok::<(), pacs_core::Error>(())
//! ```

mod markdown;
mod names;
mod network;
mod services;
#[cfg(test)]
mod tests;
#[cfg(feature = "web")]
mod web;

use std::collections::BTreeMap;

use pacs_core::dataset::charset::CharacterSet;
use pacs_core::query::{AttributeSet, unique_key};
use pacs_core::{Level, Uid};

use self::markdown::{Document, code};
use self::services::{OTHERS, SERVICE_CLASSES, ServiceClass};
use crate::scp::{Limits, ScpOptions, accept_policy, storage_classes, storage_rule};
use crate::ul::negotiate::{AcceptPolicy, ContextRule};
#[cfg(feature = "web")]
use crate::web::WebOptions;

/// What a statement is about.
#[derive(Clone, Debug)]
pub struct Statement<'a> {
    /// What the product is called.
    pub product: &'a str,
    /// Its version.
    pub version: &'a str,
    /// How requests are answered.
    pub scp: &'a ScpOptions,
    /// How much is served at once.
    pub limits: Limits,
    /// The engine has a ledger: it keeps worklists and procedure steps.
    pub ledger: bool,
    /// Which attributes are searched and returned.
    pub attributes: &'a AttributeSet,
    /// What is offered over HTTP, if something is.
    #[cfg(feature = "web")]
    pub web: Option<&'a WebOptions>,
    /// How connections and access are secured, a sentence or more each.
    pub security: Vec<String>,
    /// What can be configured, each with its present value. Nothing secret.
    pub configuration: Vec<(String, String)>,
}

/// What is offered of one service class.
struct Offered<'a> {
    class: &'a ServiceClass,
    sop_classes: Vec<(Uid, &'a ContextRule)>,
}

impl<'a> Statement<'a> {
    /// Of what is set up for DICOM: without HTTP, without a word on security and configuration.
    pub fn new(
        product: &'a str,
        version: &'a str,
        scp: &'a ScpOptions,
        limits: Limits,
        attributes: &'a AttributeSet,
    ) -> Self {
        Self {
            product,
            version,
            scp,
            limits,
            ledger: true,
            attributes,
            #[cfg(feature = "web")]
            web: None,
            security: Vec::new(),
            configuration: Vec::new(),
        }
    }

    /// The statement.
    pub fn to_markdown(&self) -> String {
        let policy = self.policy();
        let offered = offered(&policy);
        let mut out = Document::default();
        out.heading(
            1,
            &format!("DICOM Conformance Statement: {} {}", self.product, self.version),
        );
        out.text(
            "Written by the program itself from its present configuration, after the template of PS3.2 annex N. What \
             another configuration offers, its own statement says.",
        );
        self.overview(&mut out, &offered);
        self.introduction(&mut out);
        self.model(&mut out);
        services(&mut out, &offered);
        #[cfg(feature = "web")]
        web::write(&mut out, offered.len() + 1, self.web, self.ledger);
        self.network(&mut out, &policy);
        self.security(&mut out);
        self.annexes(&mut out);
        out.finish()
    }

    /// The policy of an association on which every storage SOP class is proposed.
    fn policy(&self) -> AcceptPolicy {
        let mut policy = accept_policy(self.scp, self.ledger);
        for sop_class in storage_classes() {
            policy = policy.with_context(sop_class, storage_rule());
        }
        policy
    }

    fn overview(&self, out: &mut Document, offered: &[Offered<'_>]) {
        out.heading(2, "1 Overview");
        out.text(&format!(
            "{} keeps instances, finds them and hands them out. In an association it is called `{}`.",
            self.product, self.scp.ae_title
        ));
        let row = |of: &Offered<'_>| {
            let scu = of.sop_classes.iter().any(|(_, rule)| rule.requestor_scp);
            let scp = of.sop_classes.iter().any(|(_, rule)| rule.requestor_scu);
            [
                of.class.name.to_owned(),
                of.class.clause.to_owned(),
                of.sop_classes.len().to_string(),
                yes(scu),
                yes(scp),
            ]
        };
        out.table(
            [
                "Service class",
                "Clause",
                "SOP classes",
                "SCU, by role selection",
                "SCP",
            ],
            offered.iter().map(row),
        );
        out.text("As SCU it associates of its own to send to Move Destinations (Storage).");
    }

    fn introduction(&self, out: &mut Document) {
        out.heading(2, "2 Introduction");
        out.text(
            "For those who connect devices and programs to this one. DICOM's terms are used as the Standard defines \
             them (PS3.1 to PS3.20). That two statements match does not show that two products work together: that \
             is for a test to show.",
        );
    }

    fn model(&self, out: &mut Document) {
        out.heading(2, "3 Implementation model");
        out.text(
            "One application entity accepts associations, and serves each by itself. Instances that are received are \
             kept before they are answered with success; queries and retrievals see them from then on. The same entity \
             initiates associations (section 5.4).",
        );
    }

    fn security(&self, out: &mut Document) {
        out.heading(2, "6 Security");
        if self.security.is_empty() {
            out.text("Nothing is said of security: it is for the environment of the program to provide.");
        } else {
            out.list(&self.security);
        }
    }

    fn annexes(&self, out: &mut Document) {
        out.heading(2, "7 Annexes");
        out.heading(3, "7.1 Attributes of queries");
        out.text(
            "They are matching keys and return keys alike, in DIMSE and DICOMweb; each level also takes those of the \
             levels above it. Keys that aren't here are answered without a value and don't restrict.",
        );
        for level in Level::ALL {
            out.heading(4, &format!("Level {}", level.as_str()));
            let row = |tag| {
                let (keyword, vr) = names::attribute(tag);
                let key = if tag == unique_key(level) { "unique" } else { "" };
                [keyword, code(tag.to_string()), vr, key.to_owned()]
            };
            let mut tags: Vec<_> = self.attributes.at(level).collect();
            tags.sort_unstable();
            out.table(["Attribute", "Tag", "VR", "Key"], tags.into_iter().map(row));
        }
        out.heading(3, "7.2 Character sets");
        out.text(
            "Specific Character Set is read and written with these, also with code extensions (PS3.5 6.1.2.5). Answers \
             are in the character set of the request where that can say them, else in UTF-8 (`ISO_IR 192`); over HTTP in \
             UTF-8.",
        );
        out.list(character_sets().into_iter().map(code));
        out.heading(3, "7.3 Limits");
        out.table(
            ["Limit", "Value"],
            network::limits().map(|(what, value)| [what.to_owned(), value]),
        );
        if !self.configuration.is_empty() {
            out.heading(3, "7.4 Configuration");
            let rows = self
                .configuration
                .iter()
                .map(|(what, value)| [what.clone(), value.clone()]);
            out.table(["Parameter", "Present value"], rows);
        }
    }
}

/// What a policy accepts, by service class.
fn offered(policy: &AcceptPolicy) -> Vec<Offered<'_>> {
    let sorted: BTreeMap<Uid, &ContextRule> =
        policy.contexts.iter().map(|(uid, rule)| (*uid, rule)).collect();
    let classes = SERVICE_CLASSES.iter().chain([&OTHERS]);
    let of = classes.map(|class| Offered {
        class,
        sop_classes: sorted
            .iter()
            .filter(|(uid, _)| (class.has)(uid))
            .map(|(uid, rule)| (*uid, *rule))
            .collect(),
    });
    of.filter(|offered| !offered.sop_classes.is_empty()).collect()
}

fn services(out: &mut Document, offered: &[Offered<'_>]) {
    out.heading(2, "4 Services");
    for (of, number) in offered.iter().zip(1..) {
        out.heading(3, &format!("4.{number} {} ({})", of.class.name, of.class.clause));
        out.text(of.class.does);
        let row = |(uid, rule): &(Uid, &ContextRule)| {
            [
                names::sop_class(uid),
                code(uid.as_str()),
                yes(rule.requestor_scp),
                yes(rule.requestor_scu),
                network::accepted(&rule.transfer_syntaxes),
            ]
        };
        out.table(
            [
                "SOP class",
                "UID",
                "SCU",
                "SCP",
                "Transfer syntax that is accepted",
            ],
            of.sop_classes.iter().map(row),
        );
        let row = |(field, status, meaning)| {
            let field: crate::dimse::CommandField = field;
            let status: crate::dimse::Status = status;
            let meaning: String = meaning;
            [
                field.to_string(),
                code(format!("{:04X}", status.0)),
                format!("{:?}", status.category()),
                meaning,
            ]
        };
        out.table(
            ["Request", "Status", "Category", "Meaning"],
            of.class.statuses().into_iter().map(row),
        );
    }
}

fn yes(it_is: bool) -> String {
    if it_is { "yes" } else { "no" }.to_owned()
}

/// The defined terms that are understood: asked one by one.
fn character_sets() -> Vec<String> {
    let registered =
        (1..=300).flat_map(|number| [format!("ISO_IR {number}"), format!("ISO 2022 IR {number}")]);
    let named = ["GB18030", "GBK"].map(str::to_owned);
    let terms = registered.chain(named);
    let mut known: Vec<String> = terms
        .filter(|term| CharacterSet::parse(term).value() == *term)
        .collect();
    // Those of several bytes are only ever used with code extensions.
    for number in 1..=300 {
        let term = format!("ISO 2022 IR {number}");
        let with_extensions = format!("\\{term}");
        if CharacterSet::parse(&with_extensions).value() == with_extensions && !known.contains(&term) {
            known.push(term);
        }
    }
    known
}
