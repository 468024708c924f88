//! Child processes that don't outlive this one.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A child that is killed when this is dropped, or when this process dies by whatever cause.
pub(crate) struct Process {
    child: Child,
    name: String,
}

/// A command that dies with this process (`setpriv` is in util-linux), with what every peer gets.
pub(crate) fn command(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--"])
        .arg(program.as_ref())
        // Without it DCMTK's and Orthanc's answers wait ~45 ms for a delayed acknowledgement.
        .env("TCP_NODELAY", "1")
        .stdin(Stdio::null());
    command
}

impl Process {
    /// Starts `command`; its output goes to the file `log`.
    pub(crate) fn start(name: &str, mut command: Command, log: &Path) -> io::Result<Self> {
        let log = std::fs::File::create(log)?;
        let child = command.stdout(log.try_clone()?).stderr(log).spawn()?;
        Ok(Self {
            child,
            name: name.to_owned(),
        })
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until something accepts connections on `port`.
    pub(crate) fn listens(&mut self, port: u16) -> io::Result<()> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!(
                    "{} ended at its start: {status}",
                    self.name
                )));
            }
            if Instant::now() > deadline {
                return Err(io::Error::other(format!(
                    "{} does not listen on {port}",
                    self.name
                )));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// The peak of its resident memory so far, in bytes.
    pub(crate) fn peak_memory(&self) -> io::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let kibibytes: Option<u64> = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .and_then(|text| text.trim().split(' ').next()?.parse().ok());
        kibibytes
            .map(|kibibytes| kibibytes * 1024)
            .ok_or_else(|| io::Error::other("the kernel tells no peak"))
    }

    /// Asks it to end as a service manager does, and waits for that.
    pub(crate) fn stop(&mut self) -> io::Result<()> {
        Command::new("kill").arg(self.child.id().to_string()).status()?;
        self.child.wait().map(drop)
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port of the loopback interface that nobody listens on just now.
pub(crate) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Whether `program` can be found.
pub(crate) fn exists(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|directory| directory.join(program).is_file()))
}
