//! The table itself.

use warp::http::Method;

use super::{Access, HEALTH, Operation, Parameter, Route};

const JSON: Option<&str> = Some("application/json");
const TEXT: Option<&str> = Some("text/plain");
const NONE: Option<&str> = None;

const STREAM: Parameter = Parameter {
    name: "stream",
    schema: "string",
    required: false,
    description: "`out` (default) or `err`: standard output or standard error",
};
const LINES: Parameter = Parameter {
    name: "lines",
    schema: "integer",
    required: false,
    description: "how many of the newest lines, at most 1000; default 100",
};
const SIGNAL: Parameter = Parameter {
    name: "signal",
    schema: "string",
    required: true,
    description: "`HUP`, `SIGHUP` or a number",
};
const RECURSIVE: Parameter = Parameter {
    name: "recursive",
    schema: "boolean",
    required: false,
    description: "`true` also removes what is in it",
};

const SLOT: Parameter = Parameter {
    name: "slot",
    schema: "string",
    required: false,
    description: "`a` or `b`: which one; default: the one that does not run",
};
const HASH: Parameter = Parameter {
    name: "hash",
    schema: "boolean",
    required: false,
    description: "`true` reads the running slot as a whole, if its content is not known",
};
const FORCE: Parameter = Parameter {
    name: "force",
    schema: "boolean",
    required: false,
    description: "`true` takes what runs already, failed before, or is another appliance's",
};
const FORCE_FLASH: Parameter = Parameter {
    name: "force",
    schema: "boolean",
    required: false,
    description: "`true` writes what the running system uses, too",
};
const REPLACE: Parameter = Parameter {
    name: "replace",
    schema: "boolean",
    required: false,
    description: "`true` ends an update that is under way, and disarms the slot",
};
const OFFSET: Parameter = Parameter {
    name: "offset",
    schema: "integer",
    required: true,
    description: "where in the bundle's streams the data begins",
};

/// The table. Of two patterns that fit, the earlier one counts.
pub static ROUTES: &[Route] = &{
    use Access::{Admin, Open, Viewer};
    use Operation::*;
    const GET: Method = Method::GET;
    const POST: Method = Method::POST;
    const PUT: Method = Method::PUT;
    const PATCH: Method = Method::PATCH;
    const DELETE: Method = Method::DELETE;
    [
        route(GET, "/", Viewer, Page, "Status page for browsers", &[], 200, Some("text/html")),
        route(GET, HEALTH, Open, Health, "Whether the API answers; tells nothing else", &[], 204, NONE),
        route(GET, "/api/v1/openapi.json", Viewer, OpenApi, "This document", &[], 200, JSON),
        route(GET, "/api/v1/status", Viewer, Status, "What runs, and in what condition", &[], 200, JSON),
        route(
            GET,
            "/api/v1/slots",
            Viewer,
            Slots,
            "Which slot runs, and which one boots next",
            &[],
            200,
            JSON,
        ),
        route(
            POST,
            "/api/v1/slots/confirm",
            Admin,
            ConfirmSlot,
            "End the trial of the running slot: it boots from now on",
            &[],
            204,
            NONE,
        ),
        route(
            POST,
            "/api/v1/slots/rollback",
            Admin,
            RollBackSlot,
            "On trial, restart into the confirmed slot; else, let the next start try the other slot",
            &[],
            202,
            NONE,
        ),
        route(
            POST,
            "/api/v1/slots/switch",
            Admin,
            SwitchSlot,
            "Let the next start try the other slot",
            &[SLOT],
            202,
            NONE,
        ),
        route(
            GET,
            "/api/v1/update",
            Viewer,
            UpdateStatus,
            "What the slots hold, the update under way, and what became of earlier ones",
            &[HASH],
            200,
            JSON,
        ),
        route(
            POST,
            "/api/v1/update",
            Admin,
            BeginUpdate,
            "Begin an update with the head of a bundle; the slot that does not run cannot be booted from now on",
            &[FORCE, REPLACE],
            201,
            JSON,
        ),
        route(
            DELETE,
            "/api/v1/update",
            Admin,
            CancelUpdate,
            "End the update that is under way, and disarm the slot",
            &[],
            204,
            NONE,
        ),
        route(
            PUT,
            "/api/v1/update/floor",
            Admin,
            SetFloor,
            "Set the lowest version that is taken",
            &[],
            204,
            NONE,
        ),
        route(
            PATCH,
            "/api/v1/update/{id}",
            Admin,
            SendUpdate,
            "Send streams of the bundle; with the last of them, the slot is verified",
            &[OFFSET],
            200,
            JSON,
        ),
        route(
            POST,
            "/api/v1/update/{id}/arm",
            Admin,
            ArmUpdate,
            "Let the next start try the update",
            &[],
            200,
            JSON,
        ),
        route(GET, "/api/v1/services", Viewer, Services, "Every service", &[], 200, JSON),
        route(GET, "/api/v1/services/{name}", Viewer, Service, "One service", &[], 200, JSON),
        route(POST, "/api/v1/services/{name}/start", Admin, StartService, "Start a service", &[], 204, NONE),
        route(
            POST,
            "/api/v1/services/{name}/stop",
            Admin,
            StopService,
            "Ask a service to end, and keep it stopped",
            &[],
            204,
            NONE,
        ),
        route(
            POST,
            "/api/v1/services/{name}/restart",
            Admin,
            RestartService,
            "Stop a service and start it again",
            &[],
            204,
            NONE,
        ),
        route(
            POST,
            "/api/v1/services/{name}/signal",
            Admin,
            SignalService,
            "Send a signal to a service",
            &[SIGNAL],
            204,
            NONE,
        ),
        route(
            GET,
            "/api/v1/services/{name}/logs",
            Viewer,
            Logs,
            "The newest lines of a service",
            &[STREAM, LINES],
            200,
            JSON,
        ),
        route(
            GET,
            "/api/v1/services/{name}/logs/{stream}",
            Viewer,
            LogFile,
            "The log file of a service; takes `Range`",
            &[],
            200,
            TEXT,
        ),
        route(
            GET,
            "/api/v1/services/{name}/tail",
            Viewer,
            FollowLogs,
            "The newest lines of a service, then new ones as server-sent events named `out` and `err`",
            &[STREAM, LINES],
            200,
            Some("text/event-stream"),
        ),
        route(
            GET,
            "/api/v1/files/{path}",
            Admin,
            ReadFile,
            "Read a file below /data or a log in /tmp; takes `Range` and `If-Range`",
            &[],
            200,
            Some("application/octet-stream"),
        ),
        route(
            PUT,
            "/api/v1/files/{path}",
            Admin,
            WriteFile,
            "Write a file below /data; it is replaced as a whole or not at all",
            &[],
            201,
            NONE,
        ),
        route(DELETE, "/api/v1/files/{path}", Admin, RemoveFile, "Remove a file below /data", &[], 204, NONE),
        route(
            GET,
            "/api/v1/directories/{path}",
            Admin,
            ListDirectory,
            "List a directory below /data, or the logs in /tmp",
            &[],
            200,
            JSON,
        ),
        route(
            PUT,
            "/api/v1/directories/{path}",
            Admin,
            MakeDirectory,
            "Make a directory below /data",
            &[],
            201,
            NONE,
        ),
        route(
            DELETE,
            "/api/v1/directories/{path}",
            Admin,
            RemoveDirectory,
            "Remove a directory below /data",
            &[RECURSIVE],
            204,
            NONE,
        ),
        route(
            PUT,
            "/api/v1/disk",
            Admin,
            FlashDisk,
            "Write the whole disk by hand; what is written is read back",
            &[FORCE_FLASH],
            204,
            NONE,
        ),
        route(
            PUT,
            "/api/v1/partitions/{number}",
            Admin,
            FlashPartition,
            "Write a partition, 1 to 4, by hand; what is written is read back",
            &[FORCE_FLASH],
            204,
            NONE,
        ),
        route(GET, "/api/v1/metrics", Viewer, Metrics, "Figures for Prometheus", &[], 200, TEXT),
        route(GET, "/api/v1/tokens", Admin, Tokens, "Names, roles and scopes of the tokens", &[], 200, JSON),
        route(
            PUT,
            "/api/v1/tokens/{name}",
            Admin,
            PutToken,
            "Add a token, or replace the one of this name; what is sent is what a device stores of it",
            &[],
            201,
            NONE,
        ),
        route(
            DELETE,
            "/api/v1/tokens/{name}",
            Admin,
            RemoveToken,
            "Revoke a token; the last admin stays",
            &[],
            204,
            NONE,
        ),
        route(
            GET,
            "/api/v1/certificate",
            Viewer,
            Certificate,
            "The certificate in use, and the one on trial",
            &[],
            200,
            JSON,
        ),
        route(
            PUT,
            "/api/v1/certificate",
            Admin,
            PutCertificate,
            "Put a private key and its certificate on trial for ten minutes: clients that ask for the server name \
             trial.krazy.invalid get it",
            &[],
            200,
            JSON,
        ),
        route(
            POST,
            "/api/v1/certificate/confirm",
            Admin,
            ConfirmCertificate,
            "Use the certificate on trial from now on; only over a connection that presented it",
            &[],
            204,
            NONE,
        ),
        route(POST, "/api/v1/reboot", Admin, Reboot, "Stop everything and restart", &[], 202, NONE),
        route(POST, "/api/v1/poweroff", Admin, Poweroff, "Stop everything and switch off", &[], 202, NONE),
    ]
};

#[allow(clippy::too_many_arguments, reason = "one argument per column of the table")]
const fn route(
    method: Method,
    pattern: &'static str,
    access: Access,
    operation: Operation,
    summary: &'static str,
    query: &'static [Parameter],
    success: u16,
    media_type: Option<&'static str>,
) -> Route {
    Route { method, pattern, access, operation, summary, query, success, media_type }
}
