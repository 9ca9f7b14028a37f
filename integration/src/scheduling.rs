//! How the mesh's threads share processors with each other and with everybody else.

/// Asks the kernel to treat the threads started from now on as throughput work (`SCHED_BATCH`): one that wakes up waits
/// for its turn instead of interrupting whoever runs. Woken at each arrival, the log would commit a few events
/// at a time on a busy machine; a little later it commits all that arrived, and the same processors take a sixth more.
/// On a machine with an idle processor nothing changes.
///
/// A niceness that somebody chose is left alone, and so is everything else then.
pub fn prefer_throughput() {
    #[cfg(target_os = "linux")]
    if let Err(error) = linux::batch() {
        tracing::debug!(error, "keep the usual scheduling");
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use thread_priority::{
        NormalThreadSchedulePolicy, ThreadPriority, ThreadPriorityValue, ThreadSchedulePolicy,
        set_thread_priority_and_policy, thread_native_id,
    };

    /// The crate sets a niceness with every policy; on its scale from 0 to 99 this is the usual one.
    const NICENESS_ZERO: u8 = 48;

    pub(super) fn batch() -> Result<(), String> {
        if rustix::process::getpriority_process(None).map_err(|error| error.to_string())? != 0 {
            return Err("the process has a niceness of its own".to_owned());
        }
        let usual =
            ThreadPriorityValue::try_from(NICENESS_ZERO).map_err(|error| error.to_string())?;
        set_thread_priority_and_policy(
            thread_native_id(),
            ThreadPriority::Crossplatform(usual),
            ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Batch),
        )
        .map_err(|error| error.to_string())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    /// Field 41 of `stat(5)` is the policy; `SCHED_BATCH` is 3. Field 19 is the niceness.
    fn policy_and_niceness() -> (String, String) {
        let stat =
            std::fs::read_to_string("/proc/thread-self/stat").expect("a thread of Linux has it");
        let (_, after_name) = stat.rsplit_once(')').expect("the name is in parentheses");
        let after_name: Vec<&str> = after_name.split_whitespace().collect();
        (after_name[38].to_owned(), after_name[16].to_owned())
    }

    #[test]
    fn threads_started_later_are_throughput_work_with_the_usual_niceness() {
        std::thread::spawn(|| {
            super::prefer_throughput();
            let inherited =
                std::thread::spawn(policy_and_niceness).join().expect("it reads a file");
            assert_eq!(inherited, ("3".to_owned(), "0".to_owned()));
        })
        .join()
        .expect("the assertion holds");
    }
}
