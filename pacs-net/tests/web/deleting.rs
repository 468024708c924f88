//! Deleting over HTTP, where it is switched on.

use super::*;

async fn delete(served: &Served, path: &str) -> Answer {
    let request = Request::builder()
        .method(Method::DELETE)
        .uri(format!("/dicom-web{path}"));
    served.ask(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn studies_series_and_instances_go_where_that_is_switched_on() {
    let options = WebOptions {
        delete: true,
        ..WebOptions::default()
    };
    let served = Served::with(options, Options::default()).await;
    for image in [
        Image::new(1, 1, 1),
        Image::new(1, 1, 2),
        Image::new(1, 2, 3),
        Image::new(2, 1, 4),
    ] {
        served.keep(image.file()).await;
    }
    for (path, left) in [
        (Image::new(1, 1, 1).path(), 3),
        ("/studies/1.2.1/series/1.2.1.2".to_owned(), 2),
        ("/studies/1.2.1".to_owned(), 1),
    ] {
        assert_eq!(
            delete(&served, &path).await.status,
            StatusCode::NO_CONTENT,
            "{path}"
        );
        assert_eq!(served.get("/instances").await.items().len(), left, "{path}");
        delete(&served, &path).await.problem(StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn nothing_can_be_deleted_by_default() {
    let served = Served::keeping([Image::new(1, 1, 1).file()]).await;
    for (path, allowed) in [
        ("/studies/1.2.1", "GET,HEAD,POST"),
        (&*Image::new(1, 1, 1).path(), "GET,HEAD"),
    ] {
        let answer = delete(&served, path).await;
        let problem = answer.problem(StatusCode::METHOD_NOT_ALLOWED);
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(detail.contains("configured without deletion"), "{problem}");
        assert_eq!(answer.header(header::ALLOW), allowed);
    }
    // What never can be deleted is not for want of a setting.
    let answer = delete(&served, "/studies").await;
    assert!(answer.problem(StatusCode::METHOD_NOT_ALLOWED)["detail"].is_null());
    assert_eq!(served.get("/studies").await.items().len(), 1);
}
