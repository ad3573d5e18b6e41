//! Work on other threads, and work that outlives its request.

use std::future::Future;

use crate::problem::{Kind, Problem};

/// Runs `work`, which blocks, on a thread of its own. It starts at once and runs to its end even if the returned future
/// is dropped.
pub(crate) fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> impl Future<Output = Result<T, Problem>> + Send {
    let task = tokio::task::spawn_blocking(work);
    async {
        task.await.unwrap_or_else(|error| {
            Err(Problem::new(Kind::Internal, format!("a file operation ended early: {error}")))
        })
    }
}

/// Runs `work` to its end, and waits for it.
///
/// hyper drops the future of a request when its client hangs up or resets the stream. Work already handed to another
/// thread continues, but without this function the locks would be released before it is done, and the remaining steps
/// skipped.
pub(crate) async fn run_to_completion<T: Send + 'static>(
    work: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Result<T, Problem> {
    tokio::spawn(work).await.unwrap_or_else(|error| {
        Err(Problem::new(Kind::Internal, format!("the operation ended early: {error}")))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::sync::{Notify, oneshot};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn work_continues_after_its_caller_gave_up() {
        let (start, (report, reported)) = (Arc::new(Notify::new()), oneshot::channel());
        let started = Arc::clone(&start);
        let work = async move {
            started.notified().await;
            report.send("done").map_err(|_| Problem::new(Kind::Internal, "the receiver is gone"))
        };
        let wait = timeout(Duration::from_millis(10), run_to_completion(work));
        assert!(wait.await.is_err(), "the work waits to be started");
        start.notify_one();
        assert_eq!(reported.await, Ok("done"));
        let refused = async { Err::<(), _>(Problem::new(Kind::NotNow, "no")) };
        assert_eq!(run_to_completion(refused).await.unwrap_err().kind(), Kind::NotNow);
    }
}
