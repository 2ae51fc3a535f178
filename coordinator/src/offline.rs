//! What the binary says about a stopped member: `position`, `recover`, `restore`.

use std::path::Path;
use std::process::ExitCode;

use quorate_common::telemetry::tell;
use quorate_coordinator::config::Config;
use quorate_coordinator::member::{self, Survivor};

use crate::fail;

/// Shows what a stopped member holds.
pub(crate) async fn position(config: &Config, json: bool) -> ExitCode {
    match member::position(config).await {
        Ok(survivor) if json => {
            println!("{}", as_json(&survivor));
            ExitCode::SUCCESS
        }
        Ok(survivor) => {
            print(&survivor);
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error, error.exit_code()),
    }
}

fn as_json(survivor: &Survivor) -> serde_json::Value {
    let Survivor { member, name, cluster, position, .. } = survivor;
    let (term, _, index) = position.last.unwrap_or_default();
    let row = |(id, address, voter): &(u64, String, bool)| serde_json::json!({ "memberId": id, "grpcAddress": address, "voter": voter });
    serde_json::json!({
        "cluster": cluster,
        "name": name,
        "memberId": member.0,
        "lastTerm": term,
        "lastIndex": index,
        "committedIndex": position.committed,
        "voteTerm": position.vote_term,
        "snapshotIndex": position.snapshot,
        "members": position.members.iter().map(row).collect::<Vec<_>>(),
    })
}

fn print(survivor: &Survivor) {
    let Survivor { member, name, cluster, position, .. } = survivor;
    let (term, _, index) = position.last.unwrap_or_default();
    println!("member      {name} (number {member}) of the cluster {cluster:?}");
    println!("last entry  term {term}, index {index}");
    println!("committed   index {}, as far as it knows", position.committed);
    println!("vote        term {}", position.vote_term);
    println!("snapshot    index {}", position.snapshot);
    for (id, address, voter) in &position.members {
        let vote = if *voter { "votes" } else { "no vote" };
        println!("belongs to  number {id} at {address}, {vote}");
    }
}

/// Lets it go on alone.
pub(crate) async fn recover(config: &Config, cluster: &str) -> ExitCode {
    match member::recover(config, cluster).await {
        Ok(done) => {
            print(&done.survivor);
            let lost = if done.lost.is_empty() { "nobody".to_owned() } else { done.lost.join(", ") };
            println!("out         {lost}");
            println!("kept        the store as it was: {}", done.aside.display());
            println!("{} goes on alone; start the daemon, then let new members join", done.survivor.name);
            tell(format_args!(
                "hint: never start one of the lost members again; `quorate-coordinator rejoin` gives its machine a new number"
            ));
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error, error.exit_code()),
    }
}

/// Makes a first member from a saved state.
pub(crate) async fn restore(config: &Config, file: &Path, ca: &Path) -> ExitCode {
    match member::restore(config, file, ca).await {
        Ok((header, member)) => {
            println!(
                "cluster {:?} as it was at {} (index {}); this is member {member}",
                header.cluster_name, header.saved_at, header.index
            );
            println!("start the daemon, then let further members join");
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error, error.exit_code()),
    }
}
