package openstack

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Limits are what a cloud far away, and shared with others, does to who asks it.
type Limits struct {
	// Delay is put before every request.
	Delay time.Duration
	// Every lets one request of a server through, Burst of them at once; those beyond it get a 429
	// with Retry-After.
	Every time.Duration
	Burst int
}

// Front is a cloud behind limits: a Keystone whose catalog names a Barbican that has them too.
type Front struct {
	*Cloud

	limits  Limits
	servers []*http.Server

	mu      sync.Mutex
	answers map[string]int
}

// Behind opens the front on ports of its own; Close ends it.
func (c *Cloud) Behind(limits Limits) (*Front, error) {
	f := &Front{limits: limits, answers: map[string]int{}}
	barbican, err := f.serve(c.barbican, nil)
	if err != nil {
		return nil, err
	}
	// The address of Barbican comes from Keystone, in every token.
	keystone, err := f.serve(c.keystone, strings.NewReplacer(c.barbican, barbican))
	if err != nil {
		f.Close()
		return nil, err
	}
	behind := *c
	behind.global = strings.ReplaceAll(c.global, c.keystone, keystone)
	if behind.global == c.global {
		f.Close()
		return nil, fmt.Errorf("the cloud-config does not name %s", c.keystone)
	}
	f.Cloud = &behind
	return f, nil
}

// Close ends the front at once, connections and all.
func (f *Front) Close() {
	for _, server := range f.servers {
		_ = server.Close()
	}
}

// Payloads counts the keys that Barbican gave out.
func (f *Front) Payloads() int { return f.count("payload 200") }

// Refused counts the requests for keys that were over the limit.
func (f *Front) Refused() int { return f.count("payload 429") }

func (f *Front) count(answer string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.answers[answer]
}

func (f *Front) answered(request *http.Request, status int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	what := "other"
	if strings.HasSuffix(request.URL.Path, "/payload") {
		what = "payload"
	}
	f.answers[fmt.Sprintf("%s %d", what, status)]++
}

// serve is one server before another; it returns its own address.
func (f *Front) serve(target string, rewrite *strings.Replacer) (string, error) {
	to, err := url.Parse(target)
	if err != nil {
		return "", err
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to); r.Out.Host = to.Host },
		ModifyResponse: func(answer *http.Response) error {
			f.answered(answer.Request, answer.StatusCode)
			return replaceIn(answer, rewrite)
		},
	}
	limiter := rate.NewLimiter(rate.Every(f.limits.Every), f.limits.Burst)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !pause(r.Context(), f.limits.Delay) {
			return
		}
		turn := limiter.Reserve()
		if wait := turn.Delay(); wait > 0 {
			turn.Cancel()
			f.answered(r, http.StatusTooManyRequests)
			w.Header().Set("Retry-After", strconv.Itoa(int(wait/time.Second)+1))
			http.Error(w, "over the limit", http.StatusTooManyRequests)
			return
		}
		proxy.ServeHTTP(w, r)
	})}
	f.servers = append(f.servers, server)
	go func() { _ = server.Serve(listener) }()
	return "http://" + listener.Addr().String(), nil
}

// replaceIn changes the body of an answer.
func replaceIn(answer *http.Response, rewrite *strings.Replacer) error {
	if rewrite == nil {
		return nil
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	changed := []byte(rewrite.Replace(string(body)))
	answer.Body = io.NopCloser(bytes.NewReader(changed))
	answer.ContentLength = int64(len(changed))
	answer.Header.Set("Content-Length", strconv.Itoa(len(changed)))
	return nil
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
