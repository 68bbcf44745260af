import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.datatype.jsr310.JavaTimeModule;
import io.nats.client.Connection;
import io.nats.client.ConnectionListener.Events;
import io.nats.client.Dispatcher;
import io.nats.client.Message;
import io.nats.client.Nats;
import io.nats.client.Options;
import io.nats.client.impl.Headers;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Executors;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import mafalda.messages.ErrorInfo;
import mafalda.messages.JoinResult;
import mafalda.messages.LogEntriesAnswer;
import mafalda.messages.LogEntry;
import mafalda.messages.PeerLeft;
import mafalda.messages.RejectedResult;
import mafalda.messages.RoomSnapshotAnswer;

/**
 * Takes part in a room: watches it, or moderates. Prints one JSON object a line.
 *
 * <pre>
 * MAFALDA_TOKEN=...                           a participant's token; none for an open fleet
 * Room NATS_URL ROOM PEER watch [EVENT]       who and what is in the room, and each event
 * Room NATS_URL ROOM PEER mute OTHER PRODUCER pauses another peer's producer ("moderate" is granted)
 * Room NATS_URL ROOM PEER remove OTHER        removes another peer ("moderate" is granted)
 * </pre>
 *
 * With an EVENT, such as producer-paused, it leaves after the first one of that name.
 */
public final class Room {
  private static final ObjectMapper JSON =
      new ObjectMapper()
          .registerModule(new JavaTimeModule())
          .configure(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES, false);
  private static final Duration ANSWER_WITHIN = Duration.ofSeconds(10); // then the same message is published again
  private static final int ATTEMPTS = 6;
  private static final Events CAUGHT_UP = Events.CONNECTED; // in the queue, behind the entries that were missed

  /** A rejection; {@code passes}: the same may succeed later. */
  private static final class Refused extends RuntimeException {
    final boolean passes;

    Refused(JsonNode rejected) throws Exception {
      this(JSON.treeToValue(rejected, RejectedResult.class).getError());
    }

    private Refused(ErrorInfo error) {
      super(error.getCode() + ": " + error.getMessage());
      this.passes = Set.of("rate-limited", "bus-unavailable", "deadline-exceeded").contains(error.getCode());
    }
  }

  /** What came: a message with its subject without "live.", or, without an event, word of the connection. */
  private record Received(String subject, long sequence, JsonNode event, Events connection) {
    String name() {
      return subject.substring(subject.lastIndexOf('.') + 1);
    }
  }

  private final BlockingQueue<Received> received = new LinkedBlockingQueue<>();
  private final Connection nats;
  private final String room;
  private final String peer;
  private final String inbox;
  private long last; // the greatest sequence that was received
  private long after; // that of when the connection was lost
  private Set<Long> seen; // what was received since the connection was lost, until the rest has come; else null

  /** Connects, and subscribes before anything is published: an answer is never missed. */
  private Room(String url, String token, String room, String peer, List<String> others) throws Exception {
    Options.Builder options = new Options.Builder().server(url).maxReconnects(-1);
    options.inboxPrefix("_INBOX." + room + "." + peer); // a token permits no other
    options.connectionListener((connection, kind) -> received.add(new Received("", 0, null, kind)));
    if (!token.isEmpty()) {
      options.token(token.toCharArray());
    }
    this.nats = Nats.connect(options.build());
    this.room = room;
    this.peer = peer;
    this.inbox = nats.createInbox();
    Dispatcher dispatcher = nats.createDispatcher(this::take);
    String own = "live.mafalda.room." + room + ".peer." + peer;
    List<String> subjects = new ArrayList<>(others);
    subjects.addAll(List.of(own + ".result.*", own + ".event.*", "live.mafalda.room." + room + ".event.*", inbox));
    subjects.forEach(dispatcher::subscribe);
    nats.flush(Duration.ofSeconds(5));
  }

  public static void main(String[] words) {
    try {
      run(words);
      System.exit(0);
    } catch (Exception failure) {
      System.err.println(failure);
      System.exit(1); // the connection's threads would go on
    }
  }

  private static void run(String[] words) throws Exception {
    Map<String, Integer> needed = Map.of("watch", 4, "mute", 6, "remove", 5);
    if (words.length < 4 || words.length < needed.getOrDefault(words[3], Integer.MAX_VALUE)) {
      System.err.println("usage: Room NATS_URL ROOM PEER watch [EVENT] | mute OTHER PRODUCER | remove OTHER");
      System.exit(2);
    }
    String token = System.getenv().getOrDefault("MAFALDA_TOKEN", "");
    boolean mutes = words[3].equals("mute");
    if (words[3].equals("watch")) {
      new Room(words[0], token, words[1], words[2], List.of()).watch(words.length > 4 ? words[4] : null);
    } else {
      // A moderator needs no place in the room: it publishes another peer's intent, and reads its result.
      String action = mutes ? "pause-producer" : "leave";
      String result = "live.mafalda.room." + words[1] + ".peer." + words[4] + ".result." + action;
      Room moderator = new Room(words[0], token, words[1], words[2], List.of(result));
      moderator.send(words[4], action, mutes ? Map.of("producer", words[5]) : Map.of());
      print(Map.of(words[3], List.of(words).subList(4, words.length)));
    }
  }

  private void watch(String until) throws Exception {
    send(peer, "join", Map.of("appData", Map.of("language", "Java")));
    Executors.newSingleThreadScheduledExecutor().scheduleWithFixedDelay(this::askAgain, 20, 20, TimeUnit.SECONDS);
    while (true) {
      Received next = next(Duration.ofDays(1));
      if (next == null || !next.subject.contains(".event.")) {
        continue;
      }
      JsonNode data = next.event.get("data");
      print(Map.of("event", next.name(), "data", data));
      if (next.name().equals("peer-left") && JSON.treeToValue(data, PeerLeft.class).getPeer().equals(peer)) {
        print(Map.of("removed", true));
        return;
      }
      if (next.name().equals(until)) {
        send(peer, "leave", Map.of());
        print(Map.of("left", true));
        return;
      }
    }
  }

  /** A peer without a transport that asks for nothing has left after a minute. */
  private void askAgain() {
    try {
      ask("scores", Map.of(), JsonNode.class);
    } catch (Exception unanswered) {
      // Its worker has died: another place comes.
    }
  }

  /** Publishes an intent, again with the same id while there is no answer, and returns when it is done. */
  private void send(String other, String action, Map<String, ?> data) throws Exception {
    Map<String, Object> message = compose(other, "intent", action, data);
    String id = (String) message.get("id");
    Headers headers =
        new Headers()
            .add("Nats-Msg-Id", id)
            .add("Content-Type", "application/cloudevents+json")
            .add("Mafalda-Reply-To", inbox);
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
      nats.publish((String) message.get("subject"), headers, JSON.writeValueAsBytes(message));
      List<Received> others = new ArrayList<>();
      try {
        for (Received next = next(ANSWER_WITHIN); next != null; next = next(ANSWER_WITHIN)) {
          String type = next.event.get("type").asText();
          boolean mine = next.event.path("causationid").asText().equals(id);
          if (mine && type.equals("mafalda.result.rejected.v1")) {
            throw new Refused(next.event.get("data"));
          }
          // A join is answered by any place: the causationid of that is not the intent's id.
          if (mine && next.subject.contains(".result.") || action.equals("join") && type.equals("mafalda.result.join.v1")) {
            return;
          }
          if (!mine) {
            others.add(next);
          }
        }
      } finally {
        received.addAll(others); // events, for watch
      }
    }
    throw new IllegalStateException(action + ": no answer");
  }

  private <T> T ask(String query, Map<String, ?> data, Class<T> type) throws Exception {
    Map<String, Object> message = compose(peer, "query", query, data);
    Message reply = nats.request((String) message.get("subject"), JSON.writeValueAsBytes(message), ANSWER_WITHIN);
    if (reply == null) {
      throw new IllegalStateException(query + ": no answer");
    }
    JsonNode answer = JSON.readTree(reply.getData());
    if (answer.get("type").asText().equals("mafalda.result.rejected.v1")) {
      throw new Refused(answer.get("data"));
    }
    return JSON.treeToValue(answer.get("data"), type);
  }

  /** The next message, or null if none comes in time. A place is printed when it comes, at first or again. */
  private Received next(Duration within) throws Exception {
    while (true) {
      Received next = received.poll(within.toMillis(), TimeUnit.MILLISECONDS);
      if (next == null) {
        return null;
      }
      if (next.connection == Events.DISCONNECTED && seen == null) {
        seen = new HashSet<>();
        after = last;
      } else if (next.connection == Events.RECONNECTED) {
        catchUp();
      } else if (next.connection == CAUGHT_UP) {
        seen = null;
      } else if (next.event != null && (seen == null || next.sequence == 0 || seen.add(next.sequence))) {
        last = Math.max(last, next.sequence);
        if (next.event.get("type").asText().equals("mafalda.result.join.v1")) {
          joined(JSON.treeToValue(next.event.get("data"), JoinResult.class));
        }
        return next;
      }
    }
  }

  private void joined(JoinResult place) throws Exception {
    Map<String, Object> shown =
        Map.of("server", place.getServer(), "worker", place.getWorker(), "generation", place.getGeneration());
    print(Map.of("joined", shown));
    // Events were subscribed to before: what comes later than this answer is in them.
    print(Map.of("room", ask("room", Map.of(), RoomSnapshotAnswer.class)));
  }

  /** After NATS was away: asks for the entries that were published meanwhile. */
  private void catchUp() throws Exception {
    boolean more = true;
    while (more) {
      try {
        LogEntriesAnswer page = ask("entries", Map.of("after", after), LogEntriesAnswer.class);
        for (LogEntry entry : page.getEntries()) {
          received.add(new Received(entry.getSubject(), entry.getSeq(), JSON.valueToTree(entry.getMessage()), null));
        }
        after = page.getSeq();
        more = Boolean.TRUE.equals(page.getMore());
      } catch (IllegalStateException | Refused away) {
        if (away instanceof Refused refused && !refused.passes) {
          throw refused;
        }
        TimeUnit.SECONDS.sleep(1); // the fleet is not back yet
      }
    }
    received.add(new Received("", 0, null, CAUGHT_UP));
  }

  private void take(Message message) {
    try {
      String sequence = message.hasHeaders() ? message.getHeaders().getFirst("Nats-Sequence") : null;
      String subject = message.getSubject().replaceFirst("^live\\.", "");
      JsonNode event = JSON.readTree(message.getData());
      received.add(new Received(subject, sequence == null ? 0 : Long.parseLong(sequence), event, null));
    } catch (Exception notJson) {
      System.err.println(message.getSubject() + ": " + notJson.getMessage());
    }
  }

  /** A CloudEvent; its id is new for each message, and the same only when it is sent again. */
  private Map<String, Object> compose(String other, String kind, String action, Map<String, ?> data) {
    return Map.of(
        "specversion", "1.0",
        "id", UUID.randomUUID().toString().replace("-", ""),
        "source", "/client/" + peer,
        "type", "mafalda." + kind + "." + action + ".v1",
        "subject", "mafalda.room." + room + ".peer." + other + "." + kind + "." + action,
        "time", Instant.now().toString(),
        "data", data);
  }

  private static void print(Map<String, ?> line) throws Exception {
    System.out.println(JSON.writeValueAsString(line));
  }
}
