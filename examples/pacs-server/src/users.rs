//! `users` and `share`: who is let in by a password, and links that are good for some days.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use pacs_core::Uid;
use pacs_core::audit::Code;
use pacs_net::identity::{Share, Shares, User, Users};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::audit;
use crate::config::Config;
use crate::maintain::say;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Say who there is, with their roles
    List,
    /// Add a user, or give one that is there another password and other roles; the password, of 8 characters or more, is
    /// asked for at a terminal, and is the first line of standard input elsewhere
    Add {
        /// What the user is called
        #[arg(value_name = "NAME")]
        name: String,
        /// A role that they have
        #[arg(long = "role", value_name = "ROLE", required = true)]
        roles: Vec<String>,
    },
    /// Remove a user
    Remove {
        /// What the user is called
        #[arg(value_name = "NAME")]
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Shared {
    /// Study Instance UID; whether it is kept isn't looked up: what comes later can be shared before
    #[arg(value_name = "STUDY", required_unless_present = "take_back")]
    studies: Vec<Uid>,
    /// Take back all links of a name that were written until now; a server that runs refuses them from then on, but for
    /// associations that are open
    #[arg(long, value_name = "NAME", conflicts_with_all = ["studies", "days", "name", "origin"])]
    take_back: Option<String>,
    /// Days that the link is good for
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=3650))]
    days: u16,
    /// With whom, or what for: it stands in the log of who came with the link
    #[arg(long, value_name = "TEXT", default_value = "")]
    name: String,
    /// How who gets the link reaches this server: `https://pacs.example`
    #[arg(long, value_name = "URL")]
    origin: Option<String>,
}

pub(crate) fn run(config: &Config, command: Command) -> Result<bool, String> {
    let failed = |error: pacs_core::Error| error.to_string();
    let file = config.users();
    let mut users = Users::list(&file).map_err(failed)?;
    let change = match command {
        Command::List => {
            let lines = users
                .iter()
                .map(|user| format!("{}: {}\n", user.name, user.roles.join(", ")));
            say(&lines.collect::<String>())?;
            return Ok(true);
        }
        Command::Add { name, roles } => {
            let policy = config
                .access
                .as_ref()
                .ok_or("there are no users without an [access] table in the configuration")?
                .policy()?;
            if let Some(role) = roles.iter().find(|role| !policy.has_role(role)) {
                return Err(format!("there is no role {role:?}"));
            }
            let password = new_password()?;
            let user = User::new(&name, roles, password.as_bytes()).map_err(failed)?;
            let change = format!("user {} has the roles {}", user.name, user.roles.join(", "));
            users.retain(|known| known.name != user.name);
            users.push(user);
            change
        }
        Command::Remove { name } => {
            let before = users.len();
            users.retain(|known| known.name != name);
            if users.len() == before {
                return Err("there is no such user".to_owned());
            }
            format!("user {name} is removed")
        }
    };
    let kind = Code::USER_SECURITY_ATTRIBUTES_CHANGED;
    audit::alerted(config, &kind, &file, &change, || {
        Users::write(&file, &users).map_err(failed)
    })?;
    say(&format!("{change}\n"))?;
    Ok(true)
}

/// Characters that a password has at least (NIST SP 800-63B 5.1.1.2).
const PASSWORD_LENGTH_MIN: usize = 8;

/// One for a user: typed twice where somebody types it, who doesn't see what.
fn new_password() -> Result<String, String> {
    let password = line("Password: ")?;
    if password.chars().count() < PASSWORD_LENGTH_MIN {
        return Err(format!(
            "a password has at least {PASSWORD_LENGTH_MIN} characters"
        ));
    }
    if io::stdin().is_terminal() && line("The same again: ")? != password {
        return Err("these were two passwords".to_owned());
    }
    Ok(password)
}

/// The next line of standard input; what is typed is not shown.
fn line(asked: &str) -> Result<String, String> {
    let input = io::stdin();
    let before = tcgetattr(&input).ok();
    if let Some(before) = &before {
        // Where it can't be asked, the line is taken all the same.
        let _ = write!(io::stderr(), "{asked}");
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        let _ = tcsetattr(&input, OptionalActions::Now, &hidden);
    }
    let mut line = String::new();
    let read = input.lock().read_line(&mut line);
    if let Some(before) = &before {
        let _ = tcsetattr(&input, OptionalActions::Now, before);
        let _ = writeln!(io::stderr());
    }
    read.map_err(|error| format!("no password: {error}"))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// Writes a link, for whoever has it.
pub(crate) fn share(config: &Config, shared: Shared) -> Result<bool, String> {
    let failed = |error: pacs_core::Error| error.to_string();
    if config.access.is_none() {
        return Err("nothing is shared without an [access] table in the configuration".to_owned());
    }
    let file = config.shares();
    let kind = Code::OBJECT_SECURITY_ATTRIBUTES_CHANGED;
    if let Some(name) = shared.take_back {
        let change = format!("the links named {name:?} are taken back");
        audit::alerted(config, &kind, &file, &change, || {
            Shares::revoke(&file, &name).map_err(failed)
        })?;
        say(&format!(
            "Links named {name:?} that were written until now are good no more. Which there were isn't kept.\n"
        ))?;
        return Ok(true);
    }
    let shares = Shares::open(&file).map_err(failed)?;
    let days = Duration::from_secs(u64::from(shared.days) * 24 * 3600);
    let share = Share {
        name: shared.name,
        studies: shared.studies,
        until: SystemTime::now() + days,
    };
    let days = shared.days;
    let named: Vec<&str> = share.studies.iter().map(Uid::as_str).collect();
    let link = format!(
        "a link, named {:?}, lets whoever has it in for {days} days, to {}",
        share.name,
        named.join(", ")
    );
    let token = audit::alerted(config, &kind, &file, &link, || {
        shares.token(&share).map_err(failed)
    })?;
    let configured = Some(config.web.origin.clone()).filter(|origin| !origin.is_empty());
    let origin = shared.origin.or(configured).unwrap_or_else(|| {
        let _ = writeln!(
            io::stderr(),
            "the link is for this machine: --origin, or origin in [web], says how others reach the server"
        );
        let scheme = config.tls.certificate.as_ref().map_or("http", |_| "https");
        format!("{scheme}://localhost:{}", config.http_port)
    });
    // Behind the #, where it goes to no server and into no log.
    say(&format!(
        "{}/quick/#token={token}\n",
        origin.trim_end_matches('/')
    ))?;
    Ok(true)
}
