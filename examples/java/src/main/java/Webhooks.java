import com.fasterxml.jackson.databind.ObjectMapper;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.time.Instant;
import java.util.Base64;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Set;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

/**
 * Receives the events of all rooms from `mafalda webhooks run`. Prints each once, one JSON object a line.
 *
 * <pre>
 * Webhooks PORT SECRET_FILE     0: any free port; the first line tells the address
 * </pre>
 *
 * The signature is that of https://www.standardwebhooks.com; its own library for Java does the same check.
 */
public final class Webhooks {
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final long TOLERANCE_S = 300; // an older attempt may be a replay
  private static final int REMEMBERED = 10_000;

  private final byte[] secret;
  private final Set<String> known = Collections.newSetFromMap(new Recent());

  private Webhooks(String secret) {
    this.secret = Base64.getDecoder().decode(secret.strip().substring("whsec_".length()));
  }

  public static void main(String[] words) throws Exception {
    if (words.length != 2) {
      System.err.println("usage: Webhooks PORT SECRET_FILE");
      System.exit(2);
    }
    Webhooks webhooks = new Webhooks(Files.readString(Path.of(words[1])));
    InetSocketAddress address = new InetSocketAddress(InetAddress.getLoopbackAddress(), Integer.parseInt(words[0]));
    HttpServer server = HttpServer.create(address, 0);
    server.createContext("/", webhooks::answer);
    server.start();
    print(Map.of("listening", "http://127.0.0.1:" + server.getAddress().getPort() + "/"));
  }

  /** Answers 204 to what was received, which ends the attempts, and 401 to a signature that is not the bridge's. */
  private void answer(HttpExchange exchange) throws java.io.IOException {
    try (exchange) {
      byte[] body = exchange.getRequestBody().readAllBytes();
      String id = exchange.getRequestHeaders().getFirst("webhook-id");
      String timestamp = exchange.getRequestHeaders().getFirst("webhook-timestamp");
      if (!isSigned(id, timestamp, exchange.getRequestHeaders().getFirst("webhook-signature"), body)) {
        exchange.sendResponseHeaders(401, -1);
        return;
      }
      if (known.add(id)) { // delivery is at least once: a repetition has the same id
        print(Map.of("webhook", JSON.readTree(body)));
      }
      exchange.sendResponseHeaders(204, -1);
    }
  }

  private boolean isSigned(String id, String timestamp, String signatures, byte[] body) {
    if (id == null || timestamp == null || signatures == null || !timestamp.matches("\\d{1,12}")) {
      return false;
    }
    if (Math.abs(Instant.now().getEpochSecond() - Long.parseLong(timestamp)) > TOLERANCE_S) {
      return false;
    }
    byte[] expected = sign((id + "." + timestamp + ".").getBytes(StandardCharsets.UTF_8), body);
    for (String signature : signatures.split(" ")) { // several while the secret is changed: "v1,<base64> v1,<base64>"
      byte[] given = signature.getBytes(StandardCharsets.UTF_8);
      if (MessageDigest.isEqual(given, expected)) {
        return true;
      }
    }
    return false;
  }

  private byte[] sign(byte[] head, byte[] body) {
    try {
      Mac mac = Mac.getInstance("HmacSHA256");
      mac.init(new SecretKeySpec(secret, "HmacSHA256"));
      mac.update(head);
      String text = Base64.getEncoder().encodeToString(mac.doFinal(body));
      return ("v1," + text).getBytes(StandardCharsets.UTF_8);
    } catch (GeneralSecurityException impossible) {
      throw new IllegalStateException(impossible);
    }
  }

  private static void print(Map<String, ?> line) throws java.io.IOException {
    System.out.println(JSON.writeValueAsString(line));
  }

  /** The ids of the newest webhooks. An application keeps them where it keeps what they led to. */
  private static final class Recent extends LinkedHashMap<String, Boolean> {
    @Override
    protected boolean removeEldestEntry(Map.Entry<String, Boolean> eldest) {
      return size() > REMEMBERED;
    }
  }
}
