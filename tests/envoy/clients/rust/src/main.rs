use open_feature::{EvaluationContext, OpenFeature};
use open_feature_ofrep::{OfrepOptions, OfrepProvider};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let base_url = "http://localhost:10000".to_owned();
    let provider = OfrepProvider::new(OfrepOptions { base_url, ..OfrepOptions::default() }).await.unwrap();
    OpenFeature::singleton_mut().await.set_provider(provider).await;
    let client = OpenFeature::singleton().await.create_client();
    for version in ["3.1.9", "3.2.0"] {
        let context = EvaluationContext::default().with_custom_field("app-version", version);
        let found = client.get_int_details("page-size", Some(&context), None).await.unwrap();
        println!("{version} {} {:?} {:?}", found.value, found.variant, found.reason);
    }
}
