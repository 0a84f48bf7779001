// Package container speaks to a Docker Engine, or to what offers its API, as Podman does: it finds a running container,
// runs programs in it, and makes containers that vanish.
//
// It hides the API (https://docs.docker.com/reference/api/engine/): its versions, its streams, and what it says when it
// refuses. The docker program is not needed.
//
// Its laws:
//   - A program was good only if the engine told its exit code. One that the engine does not know is an error, never 0.
//   - Programs run by argument vectors. A secret travels in the environment of an exec, never in its arguments.
//   - A name that fits no container, or several, is refused with the names of those that it could have meant.
//   - A throwaway ends when this process does, however that ends.
//
// It is not its job to know what runs in a container. It reads no environment variable: DOCKER_HOST does not count.
package container

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"holdfast"
)

// DefaultEngine is where a Docker Engine listens unless it was told otherwise.
const DefaultEngine = "unix:///var/run/docker.sock"

// The minor numbers of the API's versions 1.x that are spoken: Docker 19.03 to 28. A newer engine speaks them too.
const (
	oldestAPI = 40
	newestAPI = 51
)

// answerTime bounds a call that carries no stream.
const answerTime = time.Minute

// Engine is a Docker Engine. It is safe for concurrent use.
type Engine struct {
	socket  string
	http    *http.Client
	version string // as in "1.41"
}

// ParseEngine reads where an engine is, "unix:///PATH" or "/PATH", and returns the path of its socket.
func ParseEngine(text string) (socket string, err error) {
	if text == "" {
		text = DefaultEngine
	}
	socket = strings.TrimPrefix(text, "unix://")
	if !filepath.IsAbs(socket) || strings.ContainsRune(socket, 0) {
		return "", holdfast.WithHint(fmt.Errorf("%w: engine %q is no unix socket", holdfast.ErrUsage, text),
			"write it as unix:///run/podman/podman.sock; an engine on another machine cannot be used")
	}
	return socket, nil
}

// Open agrees with the engine on a version of the API. at is as [ParseEngine] takes it.
func Open(ctx context.Context, at string) (*Engine, error) {
	socket, err := ParseEngine(at)
	if err != nil {
		return nil, err
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	e := &Engine{socket: socket, http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	if err := e.agree(ctx); err != nil {
		return nil, err
	}
	return e, nil
}

// agree settles the version of the API: the newest that both sides speak.
func (e *Engine) agree(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://engine/_ping", nil)
	if err != nil {
		return fmt.Errorf("ask the engine: %w", err)
	}
	answer, err := e.http.Do(request)
	if err != nil {
		return e.unanswered(err)
	}
	defer answer.Body.Close() // read as far as it is needed
	said := answer.Header.Get("Api-Version")
	switch {
	case said == "" && answer.StatusCode < http.StatusInternalServerError:
		return e.stranger("it answered a ping with " + answer.Status + " and no version of the API")
	case answer.StatusCode != http.StatusOK:
		return e.refused("answer a ping", answer)
	}
	major, text, _ := strings.Cut(said, ".")
	newest, err := strconv.Atoi(text)
	if err != nil || major != "1" || newest < oldestAPI {
		return holdfast.WithHint(fmt.Errorf("the engine at %s speaks version %q of the API, and 1.%d is the oldest that is known here",
			e.socket, said, oldestAPI), "install Docker 19.03 or newer")
	}
	e.version = fmt.Sprintf("1.%d", min(newest, newestAPI))
	return nil
}

// tooNew says that an engine has left behind every version that is spoken here.
func (e *Engine) tooNew(oldest string) error {
	return holdfast.WithHint(fmt.Errorf("the engine at %s speaks no version of the API before %s, and 1.%d is the newest that is known here",
		e.socket, oldest, newestAPI), fmt.Sprintf("install a newer holdfast; until then let the engine speak older versions: DOCKER_MIN_API_VERSION=1.%d in the environment of dockerd", newestAPI))
}

// stranger says that something else than an engine has the socket.
func (e *Engine) stranger(why string) error {
	return holdfast.WithHint(fmt.Errorf("what listens at %s is no engine: %s", e.socket, why),
		"name the socket of Docker or Podman with engine: unix:///PATH or HOLDFAST_ENGINE")
}

// unanswered explains a first question that came to nothing: what let itself be reached may not speak HTTP at all.
func (e *Engine) unanswered(err error) error {
	var operation *net.OpError
	reached := !errors.As(err, &operation) || operation.Op != "dial"
	if reached && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return e.stranger("its answer is none of HTTP")
	}
	return e.unreachable(err)
}

// unreachable explains why an engine could not be spoken to.
func (e *Engine) unreachable(err error) error {
	var call *url.Error
	if errors.As(err, &call) {
		err = call.Err // without the address, which is made up
	}
	hint := "look into the engine's log"
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		hint = "start the engine, or name its socket with engine: unix:///PATH or HOLDFAST_ENGINE"
	case errors.Is(err, fs.ErrPermission):
		hint = "run as root, or as a member of the group that owns the socket (docker)"
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("no answer came within %s", answerTime)
	}
	var operation *net.OpError
	if errors.As(err, &operation) {
		err = operation.Err
	}
	var system syscall.Errno
	if errors.As(err, &system) {
		err = system
	}
	return holdfast.WithHint(fmt.Errorf("reach the engine at %s: %w", e.socket, err), hint)
}

// Refusal is what an engine answered instead of doing what it was asked for.
type Refusal struct {
	Doing   string
	Status  int // of HTTP
	Message string
}

func (r *Refusal) Error() string {
	return fmt.Sprintf("the engine refused to %s: %s", r.Doing, r.Message)
}

// maxMessage bounds what is read of an answer that is no stream.
const maxMessage = 16 << 20

func (e *Engine) refused(doing string, answer *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxMessage))
	var said struct {
		Message string `json:"message"`
	}
	if err != nil || json.Unmarshal(body, &said) != nil || said.Message == "" {
		// What refuses a version of before 1.24 does so in plain words.
		if said.Message = answer.Status; strings.HasPrefix(answer.Header.Get("Content-Type"), "text/plain") && len(body) > 0 {
			said.Message = string(body[:min(len(body), 1<<10)])
		}
	}
	refusal := &Refusal{Doing: doing, Status: answer.StatusCode, Message: strings.Join(strings.Fields(said.Message), " ")}
	switch oldest := tooOld.FindStringSubmatch(refusal.Message); {
	case refusal.Status == http.StatusBadRequest && oldest != nil:
		return e.tooNew(oldest[1])
	case refusal.Status == http.StatusForbidden:
		return holdfast.WithHint(refusal, "something between the socket and the engine forbids it: let it list and inspect containers, and run programs in them (exec)")
	}
	return refusal
}

// tooOld is how an engine refuses a version that it speaks no more.
var tooOld = regexp.MustCompile(`client version \S+ is too old\. Minimum supported API version is ([0-9.]*[0-9])`)

func isStatus(err error, status int) bool {
	var refusal *Refusal
	return errors.As(err, &refusal) && refusal.Status == status
}

func (e *Engine) request(ctx context.Context, method, path string, query url.Values, body any) (*http.Request, error) {
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(text)
	}
	address := url.URL{Scheme: "http", Host: "engine", Path: "/v" + e.version + path, RawQuery: query.Encode()}
	request, err := http.NewRequestWithContext(ctx, method, address.String(), content)
	if err != nil {
		return nil, err
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	return request, nil
}

// call makes one call and decodes its answer into out, unless that is nil.
func (e *Engine) call(ctx context.Context, doing, method, path string, query url.Values, body, out any) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	request, err := e.request(ctx, method, path, query, body)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	answer, err := e.http.Do(request)
	if err != nil {
		return e.unreachable(err)
	}
	defer answer.Body.Close() // read to its end, or of no use any more
	if answer.StatusCode >= 300 {
		return e.refused(doing, answer)
	}
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxMessage)).Decode(out); err != nil {
		return fmt.Errorf("%s: read the engine's answer: %w", doing, err)
	}
	return nil
}

// stream is a connection that the API has handed over for a container's or a program's own bytes.
type stream struct {
	conn *net.UnixConn
	in   *bufio.Reader
}

// hijack makes a call that turns its connection into a stream.
func (e *Engine) hijack(ctx context.Context, doing, path string, query url.Values, body any) (*stream, error) {
	request, err := e.request(ctx, http.MethodPost, path, query, body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	request.Header.Set("Connection", "Upgrade")
	request.Header.Set("Upgrade", "tcp")
	dialled, err := (&net.Dialer{}).DialContext(ctx, "unix", e.socket)
	if err != nil {
		return nil, e.unreachable(err)
	}
	s := &stream{conn: dialled.(*net.UnixConn), in: bufio.NewReaderSize(dialled, 64<<10)}
	stop := context.AfterFunc(ctx, func() { s.conn.Close() }) // ends the handshake
	err = request.Write(s.conn)
	var answer *http.Response
	if err == nil {
		answer, err = http.ReadResponse(s.in, request)
	}
	switch {
	case !stop():
		err = context.Cause(ctx)
	case err != nil:
		err = e.unreachable(err)
	case answer.StatusCode != http.StatusSwitchingProtocols:
		err = e.refused(doing, answer)
	default:
		return s, nil
	}
	s.conn.Close() // of no use any more
	return nil, err
}
