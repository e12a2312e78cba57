//! How far a panic reaches: it ends the request that it was part of, and nothing else.

/// The name of the threads that requests and their steps run on.
pub const EXECUTOR: &str = "berth-worker";

/// From now on a panic on a thread of the executor ends what it was in: the server answers the request with
/// 500, a step becomes an error. The network's own threads (the reconciler, the name server) go on by themselves. One on
/// any other thread would leave the engine running without it, so it ends the engine, whose next start sets everything
/// right; containers go on.
pub fn confine() {
    let say = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        say(panic);
        let thread = std::thread::current();
        let name = thread.name().unwrap_or_default();
        if name != EXECUTOR && !berth_network::KEPT_THREADS.contains(&name) {
            std::process::abort();
        }
    }));
}
