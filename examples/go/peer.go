package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"mafalda/messages"

	"github.com/nats-io/nats.go"
)

const (
	answerWithin = 10 * time.Second // then the same message is published again, with the same id
	attempts     = 6
)

// Event is a CloudEvent whose data has not been read yet.
type Event struct {
	ID          string          `json:"id"`
	Type        string          `json:"type"`
	CausationID string          `json:"causationid"`
	Data        json.RawMessage `json:"data"`
	Subject     string          `json:"-"` // without "live."
	Name        string          `json:"-"` // the last token of the subject
}

// Peer is a participant of a room: it publishes intents and receives results and events.
type Peer struct {
	Places chan messages.JoinResult // where the peer is; another one comes after its worker died
	Events chan Event               // of the room, and of the peer's own objects
	Failed chan error               // what was missed while NATS was away cannot be had

	nats              *nats.Conn
	room, name, inbox string

	mutex   sync.Mutex
	waiting map[string]chan Event // by the id of the intent
	last    uint64                // the greatest sequence that was received
	after   uint64                // that of when the connection was lost
	seen    map[uint64]bool       // what was received since then, until all that was missed has come; else nil
}

// Connect connects with a participant's token; an empty one is for an open fleet. It subscribes before anything is
// published, so that no answer is missed.
func Connect(url, token, room, name string, others ...string) (*Peer, error) {
	peer := &Peer{
		Places: make(chan messages.JoinResult, 16), Events: make(chan Event, 4096), Failed: make(chan error, 1),
		room: room, name: name, waiting: map[string]chan Event{},
	}
	connection, err := nats.Connect(url, nats.Token(token), nats.CustomInboxPrefix("_INBOX."+room+"."+name),
		nats.MaxReconnects(-1), nats.DisconnectErrHandler(peer.disconnected), nats.ReconnectHandler(peer.reconnected),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { print(map[string]any{"nats": err.Error()}) }))
	if err != nil {
		return nil, err
	}
	peer.nats, peer.inbox = connection, connection.NewInbox()
	own := "live.mafalda.room." + room + ".peer." + name
	patterns := []string{own + ".result.*", own + ".event.*", "live.mafalda.room." + room + ".event.*", peer.inbox}
	for _, pattern := range append(patterns, others...) {
		if _, err := connection.Subscribe(pattern, peer.take); err != nil {
			return nil, err
		}
	}
	return peer, connection.Flush()
}

// Do publishes an intent of this peer and waits for its result; ctx is that of the place it is meant for. A result with
// secrets comes to the inbox too: private waits for that one.
func (p *Peer) Do(ctx context.Context, action string, data any, private bool, result any) error {
	return p.doAs(ctx, p.name, action, data, private, result)
}

// Moderate publishes an intent of another peer, which needs a token with the grant "moderate".
func (p *Peer) Moderate(ctx context.Context, other, action string, data any) error {
	return p.doAs(ctx, other, action, data, false, nil)
}

func (p *Peer) doAs(ctx context.Context, peer, action string, data any, private bool, result any) error {
	id, message, err := p.compose(peer, "intent", action, data)
	if err != nil {
		return err
	}
	answers := p.await(id)
	defer p.forget(id)
	for range attempts {
		if err := p.nats.PublishMsg(message); err != nil {
			return err
		}
		answer, err := p.answer(ctx, answers, private)
		switch {
		case errors.Is(err, errNoAnswer):
			continue
		case err != nil:
			return fmt.Errorf("%s: %w", action, err)
		case result == nil:
			return nil
		default:
			return json.Unmarshal(answer.Data, result)
		}
	}
	return fmt.Errorf("%s: %w", action, errNoAnswer)
}

var errNoAnswer = errors.New("no answer")

// answer waits for the result of an intent: a rejection is an error, and ends the intent.
func (p *Peer) answer(ctx context.Context, answers <-chan Event, private bool) (Event, error) {
	late := time.After(answerWithin)
	for {
		select {
		case answer := <-answers:
			if answer.Type == "mafalda.result.rejected.v1" {
				return answer, refusal(answer)
			}
			if private == (answer.Subject == p.inbox) {
				return answer, nil
			}
		case <-late:
			return Event{}, errNoAnswer
		case <-ctx.Done():
			return Event{}, ctx.Err()
		}
	}
}

// Join returns the peer's place. The result of a join is not matched by its causationid.
func (p *Peer) Join(appData map[string]any) (messages.JoinResult, error) {
	id, message, err := p.compose(p.name, "intent", "join", messages.JoinIntent{AppData: appData})
	if err != nil {
		return messages.JoinResult{}, err
	}
	answers := p.await(id)
	defer p.forget(id)
	for range attempts {
		if err := p.nats.PublishMsg(message); err != nil {
			return messages.JoinResult{}, err
		}
		select {
		case place := <-p.Places:
			return place, nil
		case answer := <-answers:
			return messages.JoinResult{}, fmt.Errorf("join: %w", refusal(answer))
		case <-time.After(answerWithin):
		}
	}
	return messages.JoinResult{}, fmt.Errorf("join: %w", errNoAnswer)
}

// Refused is the error of an intent that was answered by a rejection.
type Refused struct{ Code, Message string }

func (r Refused) Error() string { return r.Code + ": " + r.Message }

// mayPass says whether the same may succeed later: there was no answer, or a refusal for a while.
func mayPass(err error) bool {
	var refused Refused
	return !errors.As(err, &refused) || slices.Contains([]string{"rate-limited", "bus-unavailable", "deadline-exceeded"}, refused.Code)
}

func refusal(answer Event) error {
	var rejected messages.RejectedResult
	_ = json.Unmarshal(answer.Data, &rejected)
	return Refused{rejected.Error.Code, rejected.Error.Message}
}

func (p *Peer) await(id string) <-chan Event {
	answers := make(chan Event, 8)
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.waiting[id] = answers
	return answers
}

func (p *Peer) forget(id string) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	delete(p.waiting, id)
}

// Ask sends a query and reads its answer; a rejection is an error.
func (p *Peer) Ask(query string, data, answer any) error {
	_, message, err := p.compose(p.name, "query", query, data)
	if err != nil {
		return err
	}
	reply, err := p.nats.RequestMsg(message, answerWithin)
	if err != nil {
		return fmt.Errorf("query %s: %w", query, err)
	}
	var event Event
	if err := json.Unmarshal(reply.Data, &event); err != nil {
		return err
	}
	if event.Type == "mafalda.result.rejected.v1" {
		return fmt.Errorf("query %s: %w", query, refusal(event))
	}
	return json.Unmarshal(event.Data, answer)
}

func (p *Peer) compose(peer, kind, action string, data any) (string, *nats.Msg, error) {
	random := make([]byte, 16)
	_, _ = rand.Read(random)
	id := hex.EncodeToString(random)
	subject := fmt.Sprintf("mafalda.room.%s.peer.%s.%s.%s", p.room, peer, kind, action)
	raw, err := json.Marshal(map[string]any{
		"specversion": "1.0",
		"id":          id,
		"source":      "/client/" + p.name,
		"type":        fmt.Sprintf("mafalda.%s.%s.v1", kind, action),
		"subject":     subject,
		"time":        time.Now().UTC().Format(time.RFC3339Nano),
		"data":        data,
	})
	message := nats.NewMsg(subject)
	message.Data = raw
	message.Header.Set("Content-Type", "application/cloudevents+json")
	if kind == "intent" {
		message.Header.Set("Nats-Msg-Id", id)
		message.Header.Set("Mafalda-Reply-To", p.inbox)
	}
	return id, message, err
}

// take is called with each message that comes.
func (p *Peer) take(message *nats.Msg) {
	sequence, _ := strconv.ParseUint(message.Header.Get("Nats-Sequence"), 10, 64) // 0: it came to the inbox
	p.mutex.Lock()
	p.last = max(p.last, sequence)
	known := sequence > 0 && p.seen[sequence]
	if p.seen != nil {
		p.seen[sequence] = true
	}
	p.mutex.Unlock()
	if !known {
		p.dispatch(strings.TrimPrefix(message.Subject, "live."), message.Data)
	}
}

func (p *Peer) dispatch(subject string, raw []byte) {
	event := Event{Subject: subject, Name: subject[strings.LastIndex(subject, ".")+1:]}
	if err := json.Unmarshal(raw, &event); err != nil {
		return
	}
	p.mutex.Lock()
	answers := p.waiting[event.CausationID]
	p.mutex.Unlock()
	var place messages.JoinResult
	switch {
	case event.Type == "mafalda.result.join.v1" && json.Unmarshal(event.Data, &place) == nil:
		p.Places <- place
	case strings.Contains(subject, ".event."):
		p.Events <- event
	case answers != nil:
		answers <- event
	}
}

func (p *Peer) disconnected(*nats.Conn, error) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.after, p.seen = p.last, map[uint64]bool{}
}

// reconnected asks for the entries that were published while the connection was lost.
func (p *Peer) reconnected(*nats.Conn) {
	p.mutex.Lock()
	after := int64(p.after)
	p.mutex.Unlock()
	for more := true; more; {
		var page messages.LogEntriesAnswer
		if err := p.Ask("entries", messages.QueryEntries{After: after}, &page); err != nil && mayPass(err) {
			time.Sleep(time.Second) // JetStream is still starting
			continue
		} else if err != nil {
			select {
			case p.Failed <- err:
			default: // it has failed before
			}
			return
		}
		for _, entry := range page.Entries {
			raw, _ := json.Marshal(entry.Message)
			missed := nats.NewMsg(entry.Subject)
			missed.Data = raw
			missed.Header.Set("Nats-Sequence", strconv.FormatInt(entry.Seq, 10))
			p.take(missed)
		}
		after, more = page.Seq, page.More != nil && *page.More
	}
	p.mutex.Lock()
	p.seen = nil
	p.mutex.Unlock()
	print(map[string]any{"reconnected": true})
}
