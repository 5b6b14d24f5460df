use crate::member::Member;

/// The programs that the faults hit.
pub(crate) struct Members {
    pub(crate) servers: Vec<Member>,
    pub(crate) workers: Vec<Member>,
}

impl Members {
    pub(crate) fn all(&self) -> impl Iterator<Item = &Member> {
        self.servers.iter().chain(&self.workers)
    }

    /// Saves the programs' logs.
    pub(crate) async fn archive(&mut self) {
        for member in self.servers.iter_mut().chain(&mut self.workers) {
            // Also records whether the program has ended by itself.
            member.lives().await;
            member.archive();
        }
    }
}
