import io.opentelemetry.api.baggage.propagation.W3CBaggagePropagator;
import io.opentelemetry.context.Context;
import io.opentelemetry.context.propagation.TextMapGetter;
import io.opentelemetry.context.propagation.TextMapPropagator;
import io.opentelemetry.extension.trace.propagation.JaegerPropagator;
import io.opentelemetry.extension.trace.propagation.OtTracePropagator;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * A service that uses OpenTelemetry: for each line, the headers of a request that it was sent, the baggage that it sends on,
 * as its SDK makes it. A line is `name TAB value TAB name TAB value…`, an answer the value of `baggage`.
 */
class Carry {
  public static void main(String[] arguments) throws Exception {
    TextMapPropagator all =
        TextMapPropagator.composite(
            W3CBaggagePropagator.getInstance(), JaegerPropagator.getInstance(), OtTracePropagator.getInstance());
    TextMapGetter<Map<String, String>> getter =
        new TextMapGetter<>() {
          public Iterable<String> keys(Map<String, String> carrier) {
            return carrier.keySet();
          }

          public String get(Map<String, String> carrier, String key) {
            return carrier == null ? null : carrier.get(key);
          }
        };
    var lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line; (line = lines.readLine()) != null; ) {
      Map<String, String> headers = new LinkedHashMap<>();
      String[] parts = line.split("\t", -1);
      for (int i = 0; i + 1 < parts.length; i += 2) {
        headers.put(parts[i], parts[i + 1]);
      }
      Map<String, String> carrier = new LinkedHashMap<>();
      Context context = all.extract(Context.root(), headers, getter);
      W3CBaggagePropagator.getInstance().inject(context, carrier, Map::put);
      System.out.println(carrier.getOrDefault("baggage", ""));
    }
  }
}
