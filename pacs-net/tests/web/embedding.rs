//! The services in a program that has pages and a fallback of its own.

use axum::routing;

use super::*;

/// A program of somebody else's, with the services at `path`.
async fn program(path: &str, fallback: bool) -> Served {
    let options = WebOptions {
        path: path.to_owned(),
        ..WebOptions::default()
    };
    let (archive, index) = (Arc::new(MemoryArchive::new()), Arc::new(MemoryIndex::new()));
    let pacs = Pacs::open(archive, index, Options::default()).await.unwrap();
    let own = Router::new()
        .route("/", routing::get(async || "home"))
        .route("/own", routing::get(async || "own"));
    let own = match fallback {
        true => own
            .fallback(async || (StatusCode::IM_A_TEAPOT, "nobody's"))
            .method_not_allowed_fallback(async || (StatusCode::IM_A_TEAPOT, "no method")),
        false => own,
    };
    let router = own
        .merge(web::router(pacs.clone(), options.clone()))
        .merge(web::wado_uri(pacs.clone(), options, "wado/"));
    let served = Served { pacs, router };
    served.keep(Image::new(1, 1, 1).file()).await;
    served
}

async fn ask(served: &Served, method: Method, path: &str) -> Answer {
    let request = Request::builder().method(method).uri(path);
    let request = request.header(header::HOST, "pacs.example");
    served.ask(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn the_path_of_the_services_may_be_written_in_any_way_and_be_none() {
    for (path, expected) in [
        ("", ""),
        ("/", ""),
        ("//", ""),
        ("dicom-web", "/dicom-web"),
        ("/dicom-web/", "/dicom-web"),
        ("pacs/dicom-web//", "/pacs/dicom-web"),
    ] {
        for fallback in [true, false] {
            let served = program(path, fallback).await;
            let answer = ask(&served, Method::GET, &format!("{expected}/studies")).await;
            let retrieve_url = value(&answer.items()[0], tags::RETRIEVE_URL).to_string();
            let expected_url = format!("\"http://pacs.example{expected}/studies/1.2.1\"");
            assert_eq!(retrieve_url, expected_url, "{path}");
            assert!(answer.headers.contains_key(header::CACHE_CONTROL), "{path}");
            let answer = ask(&served, Method::OPTIONS, &format!("{expected}/")).await;
            assert_eq!(answer.status, StatusCode::OK, "{path}");
            let answer = ask(&served, Method::PUT, &format!("{expected}/studies")).await;
            answer.problem(StatusCode::METHOD_NOT_ALLOWED);
            let answer = ask(&served, Method::GET, "/wado").await;
            answer.problem(StatusCode::BAD_REQUEST);
        }
    }
}

#[tokio::test]
async fn the_answers_of_the_program_around_the_services_stay_its_own() {
    for path in ["", "/dicom-web"] {
        for fallback in [true, false] {
            let served = program(path, fallback).await;
            let nowhere = match fallback {
                true => StatusCode::IM_A_TEAPOT,
                false => StatusCode::NOT_FOUND,
            };
            for (asked, status) in [
                ("/", StatusCode::OK),
                ("/own", StatusCode::OK),
                ("/nowhere", nowhere),
            ] {
                let answer = ask(&served, Method::GET, asked).await;
                assert_eq!(answer.status, status, "{path} {asked}");
                for field in [
                    header::CACHE_CONTROL,
                    header::VARY,
                    header::X_CONTENT_TYPE_OPTIONS,
                ] {
                    assert!(!answer.headers.contains_key(&field), "{path} {asked} {field}");
                }
            }
        }
    }
}
