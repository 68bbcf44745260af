import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.datatype.jsr310.JavaTimeModule;
import io.nats.client.Connection;
import io.nats.client.Dispatcher;
import io.nats.client.Message;
import io.nats.client.Nats;
import io.nats.client.impl.Headers;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import mafalda.messages.JoinResult;
import mafalda.messages.RejectedResult;
import mafalda.messages.RoomSnapshotAnswer;

/**
 * Joins a room, prints who and what is there and each event, one JSON object a line, and leaves.
 *
 * <p>Arguments: NATS_URL ROOM PEER [EVENT]. It leaves after the first event of that name, such as producer-paused.
 */
public final class WatchRoom {
  private static final ObjectMapper JSON =
      new ObjectMapper()
          .registerModule(new JavaTimeModule())
          .configure(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES, false);

  private final Connection nats;
  private final String peer;
  private final String subject;
  private final String inbox;

  private WatchRoom(Connection nats, String room, String peer) {
    this.nats = nats;
    this.peer = peer;
    this.subject = "mafalda.room." + room + ".peer." + peer;
    this.inbox = nats.createInbox();
  }

  public static void main(String[] arguments) throws Exception {
    if (arguments.length < 3) {
      System.err.println("usage: WatchRoom NATS_URL ROOM PEER [EVENT]");
      System.exit(2);
    }
    try (Connection nats = Nats.connect(arguments[0])) {
      WatchRoom watch = new WatchRoom(nats, arguments[1], arguments[2]);
      System.exit(watch.run(arguments[1], arguments.length > 3 ? arguments[3] : null));
    }
  }

  private int run(String room, String until) throws Exception {
    // Subscribe before publishing: an answer is never missed.
    BlockingQueue<Message> received = new LinkedBlockingQueue<>();
    Dispatcher dispatcher = nats.createDispatcher(received::add);
    String events = "live.mafalda.room." + room + ".event.*";
    for (String pattern : List.of("live." + subject + ".result.*", "live." + subject + ".event.*", events, inbox)) {
      dispatcher.subscribe(pattern);
    }
    nats.flush(Duration.ofSeconds(5));
    String join = publish("join", Map.of("appData", Map.of("language", "Java")));
    boolean leaving = false;
    while (true) {
      Message message = received.take();
      JsonNode event = JSON.readTree(message.getData());
      JsonNode data = event.get("data");
      String[] tokens = message.getSubject().split("\\.");
      String name = tokens[tokens.length - 1];
      switch (event.get("type").asText()) {
        case "mafalda.result.join.v1" -> joined(JSON.treeToValue(data, JoinResult.class));
        case "mafalda.result.rejected.v1" -> {
          print(Map.of("rejected", JSON.treeToValue(data, RejectedResult.class).getError()));
          if (event.path("causationid").asText().equals(join)) {
            return 1;
          }
        }
        case "mafalda.result.done.v1" -> {
          if (name.equals("leave")) {
            print(Map.of("left", true));
            return 0;
          }
        }
        default -> {
          if (message.getSubject().contains(".event.")) {
            print(Map.of("event", name, "data", data));
            if (name.equals(until) && !leaving) {
              leaving = true;
              publish("leave", Map.of());
            }
          }
        }
      }
    }
  }

  /** Prints the place; after a re-placement it comes again, with a greater generation. */
  private void joined(JoinResult place) throws Exception {
    Map<String, Object> shown =
        Map.of("server", place.getServer(), "worker", place.getWorker(), "generation", place.getGeneration());
    print(Map.of("joined", shown));
    if (place.getGeneration() == 1) {
      byte[] query = JSON.writeValueAsBytes(envelope("query", "room", Map.of()));
      Message reply = nats.request(subject + ".query.room", query, Duration.ofSeconds(5));
      JsonNode answer = JSON.readTree(reply.getData()).get("data");
      print(Map.of("room", JSON.treeToValue(answer, RoomSnapshotAnswer.class)));
    }
  }

  private String publish(String action, Map<String, ?> data) throws Exception {
    Map<String, Object> message = envelope("intent", action, data);
    String id = (String) message.get("id");
    Headers headers =
        new Headers()
            .add("Nats-Msg-Id", id)
            .add("Content-Type", "application/cloudevents+json")
            .add("Mafalda-Reply-To", inbox);
    nats.publish(subject + ".intent." + action, headers, JSON.writeValueAsBytes(message));
    return id;
  }

  /** A CloudEvent; its id is new for each message, and the same only when it is sent again. */
  private Map<String, Object> envelope(String kind, String action, Map<String, ?> data) {
    return Map.of(
        "specversion", "1.0",
        "id", UUID.randomUUID().toString().replace("-", ""),
        "source", "/client/" + peer,
        "type", "mafalda." + kind + "." + action + ".v1",
        "subject", subject + "." + kind + "." + action,
        "time", Instant.now().toString(),
        "data", data);
  }

  private static void print(Map<String, ?> line) throws Exception {
    System.out.println(JSON.writeValueAsString(line));
  }
}
