//! Work that is finished although whoever asked for it has gone.

use std::future::Future;

use crate::problem::{Kind, Problem};

/// Runs `work` to its end, and waits for it.
///
/// hyper drops the future of a request whose client hangs up or resets the stream. What was handed to another thread
/// goes on all the same, but locks would be released before it is done, and the steps after it left out.
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
    async fn work_goes_on_when_nobody_waits_for_it() {
        let (go, done) = (Arc::new(Notify::new()), oneshot::channel());
        let (gate, (report, done)) = (Arc::clone(&go), done);
        let work = async move {
            gate.notified().await;
            report.send("done").map_err(|_| Problem::new(Kind::Internal, "nobody listens"))
        };
        let patience = Duration::from_millis(10);
        assert!(timeout(patience, run_to_completion(work)).await.is_err(), "it waits");
        go.notify_one();
        assert_eq!(done.await, Ok("done"));
        let refused = async { Err::<(), _>(Problem::new(Kind::NotNow, "no")) };
        assert_eq!(run_to_completion(refused).await.unwrap_err().kind(), Kind::NotNow);
    }
}
