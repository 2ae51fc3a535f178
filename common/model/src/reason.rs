//! Stable reason codes: one table with what each means, what it protected and what to do. `quorate explain CODE` prints it.

macro_rules! reasons {
    ($($(#[$meta:meta])* $variant:ident = $code:literal, retry $retry:literal, $cause:literal, $protects:literal, $todo:literal;)+) => {
        words! {
            /// The machine-readable reason of every refusal and error: gRPC `ErrorInfo.reason`, REST, audit, traces.
            pub enum Reason { $($(#[$meta])* #[doc = $cause] $variant = $code),+ }
        }

        impl Reason {
            /// What leads to it.
            #[must_use]
            pub const fn cause(self) -> &'static str { match self { $(Self::$variant => $cause),+ } }

            /// What the refusal protects.
            #[must_use]
            pub const fn protects(self) -> &'static str { match self { $(Self::$variant => $protects),+ } }

            /// What to do about it.
            #[must_use]
            pub const fn what_to_do(self) -> &'static str { match self { $(Self::$variant => $todo),+ } }

            /// Whether the same request may succeed later without any change by the caller.
            #[must_use]
            pub const fn is_retryable(self) -> bool { match self { $(Self::$variant => $retry),+ } }
        }
    };
}

reasons! {
    QuorumMargin = "QUORUM_MARGIN", retry true,
        "The step would leave a group with fewer available voters than its policy requires.",
        "The group's quorum: writes stop, or finality stalls, when it is lost.",
        "Bring a member that is already out back first; `quorate quorum check --down NODE` shows the arithmetic.";
    MaxUnavailable = "MAX_UNAVAILABLE", retry true,
        "As many instances of the group are already being worked on as max_unavailable allows.",
        "Capacity: the budget of one group is shared by all causes.",
        "Wait for the running step, or raise max_unavailable where the quorum allows it.";
    EvidenceStale = "EVIDENCE_STALE", retry true,
        "A health reading that the decision would rest on is missing or too old.",
        "Decisions on stale health: what is not known counts as out.",
        "`quorate node list` shows which agent is not heard; wait for fresh readings or repair the agent.";
    NodeLease = "NODE_LEASE", retry true,
        "Another operation holds a disruption grant on the node.",
        "One mutating action per node at a time.",
        "`quorate explain OPERATION` names the holder; wait for it or cancel it.";
    NodeCordoned = "NODE_CORDONED", retry true,
        "The node is cordoned: no new disruptive work may start on it.",
        "Whatever the owner of the cordon is doing there.",
        "`quorate node show NODE` names owner and reason; `quorate node uncordon NODE` lifts it.";
    AgentDisconnected = "AGENT_DISCONNECTED", retry true,
        "The node's agent is not heard.",
        "Work that could not be observed or undone.",
        "Check quorate-agent on the host and its way to the coordinators.";
    PrimaryLease = "PRIMARY_LEASE", retry true,
        "The primary role of the group is a lease: who holds it is not disturbed, nobody else gets it before it is over, and the standby is disturbed only while it is held for certain by an instance that serves.",
        "One primary, never two and never none by our own hand.",
        "`quorate failover status GROUP` shows who holds it; `quorate failover switchover GROUP` moves it first. A PRIMARY_STANDBY group that declares no failover is moved by the service's own means.";
    StandbyBehind = "STANDBY_BEHIND", retry true,
        "Whoever would take over is further behind the last that is known of the primary than the group allows, or nobody can tell how far.",
        "What the primary has acknowledged and no standby has.",
        "The details hold both positions. Wait until it has caught up; where the primary is lost for good, naming the standby says that the loss is accepted where it is not known.";
    WindowClosed = "WINDOW_CLOSED", retry true,
        "A window covers what would be disturbed, and it is closed, or closes before the step and its gate may be over.",
        "The agreed quiet hours.",
        "`quorate window show NAME` tells when it opens next; what waits goes on by itself then. A shorter step or gate deadline may fit.";
    Freeze = "FREEZE", retry true,
        "A freeze is on that covers what would be disturbed: nothing disruptive may start there.",
        "What its owner wants left alone; the freeze gives the reason.",
        "`quorate freeze list` shows who froze what, since when and until when; what waits goes on when it ends or is deleted.";
    ApprovalRequired = "APPROVAL_REQUIRED", retry true,
        "A policy covers the operation, and the approvals that it asks for have not all been given.",
        "What a second person has to look at first.",
        "`quorate approval list` shows what waits and who may decide; `quorate approval approve OPERATION --reason TEXT` decides.";
    ApproverRefused = "APPROVER_REFUSED", retry false,
        "Who asks may not decide on this operation: it is their own, or no policy that covers it names them.",
        "The second pair of eyes: nobody approves what they asked for.",
        "Ask somebody whom `quorate approval list` names. Who asked for it may cancel it: `quorate operation cancel OPERATION`.";
    ApprovalRejected = "APPROVAL_REJECTED", retry false,
        "Somebody who may decide on the operation has rejected it; none of its steps had begun.",
        "What a second person has looked at and does not want.",
        "The message has their reason; change what they name and start a new operation.";
    ApprovalExpired = "APPROVAL_EXPIRED", retry false,
        "The approvals were not given in the time that the policy allows; no step had begun.",
        "Plans from being approved when nobody remembers what for.",
        "Start a new operation, and tell those who decide.";
    NothingToChange = "NOTHING_TO_CHANGE", retry false,
        "Everything that was named is already as it was asked for.",
        "Instances from being disturbed for nothing.",
        "Nothing; there is nothing to change.";
    StalePlan = "STALE_PLAN", retry false,
        "What the plan touches has changed since it was computed.",
        "You approved something else than what would run.",
        "Plan again and look at the difference.";
    EpochStale = "EPOCH_STALE", retry false,
        "The command carries an older epoch than one this node has already seen.",
        "The node from a coordinator that lost its leadership.",
        "Nothing; the current leader sends what is due.";
    GrantExpired = "GRANT_EXPIRED", retry true,
        "The disruption grant ended before the action began.",
        "The quorum: after its end the budget may be somebody else's.",
        "Nothing; the step is granted anew or the operation stops safely.";
    PolicyDenied = "POLICY_DENIED", retry false,
        "The `[policy]` in the host's own agent.toml does not list this.",
        "The host from its coordinators.",
        "Add it to [policy] on the host, or leave it.";
    ActionUnsupported = "ACTION_UNSUPPORTED", retry false,
        "The agent on the node does not have this action.",
        "A plan that would stop half way.",
        "Upgrade the agent.";
    JournalLost = "JOURNAL_LOST", retry false,
        "The agent's journal was lost or damaged; what it did before is not known.",
        "Actions from running twice.",
        "Inspect the host, then run `quorate-helper reset-journal` there.";
    LowSpace = "LOW_SPACE", retry true,
        "The disk has too little free space for the work.",
        "The host's data and our own journal.",
        "Free space; it goes on by itself.";
    PreflightFailed = "PREFLIGHT_FAILED", retry true,
        "The host was not ready for the work, or nobody could tell; nothing was done to it.",
        "The instance: it runs as it did before.",
        "`quorate operation show ID` has every check with what was measured; mend what failed, then go on.";
    SignatureInvalid = "SIGNATURE_INVALID", retry false,
        "An artifact is not signed, or not by a key that the host's own agent.toml pins.",
        "The host from software that nobody vouched for, whoever asks for it.",
        "Sign it with `minisign -S`, or pin its key in `[policy] keys` on the host, and start a new operation.";
    ArtifactInvalid = "ARTIFACT_INVALID", retry false,
        "An artifact is not what it was declared to be: its size, its digest, its entries, or its package's fields.",
        "The host from a damaged or hostile file; nothing of it was laid out.",
        "Build or upload it again; the message names what does not fit.";
    PackageBlocked = "PACKAGE_BLOCKED", retry false,
        "The package could not be installed alone, or there would be no way back from it.",
        "Every other package of the host, and the release in use.",
        "Do what the message names: install the dependency by hand, or stage the version that is installed now.";
    ExecutionUnknown = "EXECUTION_UNKNOWN", retry false,
        "Nobody can tell whether the action had its effect.",
        "Actions from running twice.",
        "Look at the host, then start a new operation.";
    GateFailed = "GATE_FAILED", retry false,
        "A gate did not pass within its deadline.",
        "The rest of the group from a bad change.",
        "`quorate operation show ID` holds the readings.";
    ActionFailed = "ACTION_FAILED", retry false,
        "An action ended badly on its node.",
        "The rest of the group: no further step started.",
        "`quorate operation show ID` holds the outcome and its output.";
    PoolMinimum = "POOL_MINIMUM", retry true,
        "Without this server the load balancer's pool would have fewer than min_up servers that serve.",
        "The users: the servers that are left must carry all of the traffic.",
        "Bring another server of the pool back first; the message has the count that the balancer gave.";
    BalancerUnreadable = "BALANCER_UNREADABLE", retry true,
        "The load balancer could not be asked, or its answer makes no sense.",
        "The pool: what is not known counts as too few servers.",
        "Ask it by hand as the helper's user; check [balancer.NAME] of the host's agent.toml.";
    NotDrained = "NOT_DRAINED", retry true,
        "The server's connections did not end within drain_timeout; it was put back.",
        "Requests in flight.",
        "Find who holds the connections, raise drain_timeout, or say on_timeout: PROCEED.";
    NotFit = "NOT_FIT", retry true,
        "The instance does not run, or its balancer's own check does not pass: it stays out of the pool.",
        "The users from a server that cannot serve them.",
        "Mend the instance; `quorate service start NAME --node NODE` proves it and puts it back.";
    DeadlineExceeded = "DEADLINE_EXCEEDED", retry true,
        "It took longer than its deadline.",
        "Callers from waiting for ever.",
        "For a write: its outcome is unknown; ask again with the same request id.";
    InvalidArgument = "INVALID_ARGUMENT", retry false,
        "A field of the request is missing, malformed or out of range.",
        "The state from nonsense.",
        "Correct the field that the message names.";
    EmptySelector = "EMPTY_SELECTOR", retry false,
        "The selector chooses nothing; an empty selector never means all.",
        "The fleet from a forgotten flag.",
        "Name nodes, give -l, or say --all.";
    MessageTooLarge = "MESSAGE_TOO_LARGE", retry false,
        "The message is larger than its limit.",
        "Everybody else's memory.",
        "Send less at once.";
    MalformedMessage = "MALFORMED_MESSAGE", retry false,
        "The message is not valid protobuf of its type.",
        "The parser's callers.",
        "Send what the proto describes.";
    NotFound = "NOT_FOUND", retry false,
        "There is no such thing.",
        "Nothing.",
        "List what there is.";
    AlreadyExists = "ALREADY_EXISTS", retry false,
        "There is one already.",
        "The one that exists.",
        "Use another name, or change the existing one.";
    Conflict = "CONFLICT", retry false,
        "It contradicts something declared elsewhere.",
        "Declarations from contradicting each other.",
        "Change one of the two that the message names.";
    RequestIdConflict = "REQUEST_ID_CONFLICT", retry false,
        "The request id was used before for another request.",
        "Retries from turning into something else.",
        "Use a new request id for a new request.";
    WrongState = "WRONG_STATE", retry false,
        "Its state does not allow this.",
        "Finished work from being started again.",
        "Look at its state first.";
    MembershipBusy = "MEMBERSHIP_BUSY", retry true,
        "Another membership change is under way, or the new majority would not be reachable.",
        "The coordinators' own quorum.",
        "Wait for it.";
    MemberUnfit = "MEMBER_UNFIT", retry true,
        "The coordinator has no vote, does not answer, or has not the whole log: it cannot do what was asked of it.",
        "The coordinators: somebody leads, and whoever votes has everything.",
        "`quorate cluster members` shows how each stands; wait until it has caught up, or name another one.";
    LimitReached = "LIMIT_REACHED", retry true,
        "A limit on how many there may be is reached.",
        "Memory and everybody else.",
        "Remove some, or raise the limit in the configuration.";
    OffsetMismatch = "OFFSET_MISMATCH", retry false,
        "A part of an artifact does not begin where the bytes that are there end.",
        "The artifact from holes and from bytes written twice.",
        "Go on at the offset that the refusal names; `quorate artifact push` does.";
    DigestMismatch = "DIGEST_MISMATCH", retry false,
        "The bytes that came are not those of the digest they came under.",
        "The hosts from an artifact that was damaged or exchanged on its way.",
        "Push the file again; if it lasts, look for what changes it meanwhile.";
    ArtifactUnavailable = "ARTIFACT_UNAVAILABLE", retry true,
        "No member that answers has all bytes of the artifact, or they did not reach the host within the deadline.",
        "The hosts from half an artifact; the running release was not touched.",
        "`quorate artifact show` names the members that have it; if there are none, push it again. The message says what the host met.";
    ConfigRejected = "CONFIG_REJECTED", retry false,
        "The service's own check refused the configuration file; what it printed stands in the step's outcome.",
        "The running service: the file in place was not touched.",
        "Mend the file, push it again and start a new rollout; `quorate config diff` checks it without one.";
    ConfigDrifted = "CONFIG_DRIFTED", retry false,
        "The file in place is another one than the candidate was compared with, or than the one that was put there.",
        "A change that somebody made by hand on the host.",
        "Look at the file on the host, then plan again: the new comparison shows what would be lost.";
    RateLimited = "RATE_LIMITED", retry true,
        "Too many calls in too short a time.",
        "Everybody else.",
        "Slow down.";
    Unauthenticated = "UNAUTHENTICATED", retry false,
        "The certificate or token is not accepted.",
        "The fleet.",
        "The audit log of the coordinators holds the exact cause.";
    NotAllowed = "NOT_ALLOWED", retry false,
        "The caller's role does not include this call.",
        "The fleet.",
        "Ask an administrator for the role.";
    IdentityRevoked = "IDENTITY_REVOKED", retry false,
        "The identity was removed.",
        "The fleet from a host that was taken out.",
        "Enrol the host again with a new token.";
    NoLeader = "NO_LEADER", retry true,
        "The coordinators have no leader now.",
        "One truth.",
        "Try again; look at `quorate cluster members` if it lasts.";
    OutcomeUnknown = "OUTCOME_UNKNOWN", retry true,
        "The write may or may not have happened.",
        "Work from being done twice by a blind retry.",
        "Ask again with the same request id: the answer will be the first one's.";
    Internal = "INTERNAL", retry false,
        "A defect in Quorate.",
        "Nothing.",
        "Report it with the request id.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_page_and_parses_back() {
        for reason in Reason::ALL {
            assert_eq!(Reason::parse(reason.as_str()), Some(*reason));
            assert!(reason.as_str().bytes().all(|b| b.is_ascii_uppercase() || b == b'_'));
            for text in [reason.cause(), reason.protects(), reason.what_to_do()] {
                assert!(text.ends_with(['.', ')']), "{reason}: {text}");
            }
        }
    }
}
