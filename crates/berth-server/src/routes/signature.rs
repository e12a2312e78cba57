//! Signatures and attestations of images in their registries: berth's own calls. The image is named by
//! `?name=`, the registry's credentials come in `X-Registry-Auth`.

use axum::body::Body;
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use berth_engine::image;
use berth_spec::docker::image::{ImageAttestation, ImageSigned, SignatureAdd, SignatureCheck};
use http::{HeaderMap, StatusCode};

use crate::error::Reply;
use crate::query::Query;
use crate::{App, body, credentials};

pub fn routes() -> Router<App> {
    Router::new()
        .route("/images/signatures", post(add))
        .route("/images/signatures/verify", post(verify))
        .route("/images/attestations", get(attestations))
}

async fn verify(
    State(app): State<App>,
    query: Query,
    headers: HeaderMap,
    given: Body,
) -> Reply<Json<ImageSigned>> {
    let auth = credentials::from_headers(&headers)?;
    let check: SignatureCheck = body::json(given).await?;
    let name = query.text("name");
    let signed = image::verify_signature(&app.engine, &name, check, auth.as_ref()).await?;
    Ok(Json(signed))
}

async fn add(
    State(app): State<App>,
    query: Query,
    headers: HeaderMap,
    given: Body,
) -> Reply<StatusCode> {
    let auth = credentials::from_headers(&headers)?;
    let add: SignatureAdd = body::json(given).await?;
    image::add_signature(&app.engine, &query.text("name"), add, auth.as_ref()).await?;
    Ok(StatusCode::CREATED)
}

async fn attestations(
    State(app): State<App>,
    query: Query,
    headers: HeaderMap,
) -> Reply<Json<Vec<ImageAttestation>>> {
    let auth = credentials::from_headers(&headers)?;
    let name = query.text("name");
    Ok(Json(
        image::attestations(&app.engine, &name, auth.as_ref()).await?,
    ))
}
