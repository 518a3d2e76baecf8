// Package certify judges from a command's run under a metadata service of ours whether its programs live with IMDSv2 alone, with
// which hop limit, and what they do that will hurt: fallbacks, a token for each request, waiting for an answer that never comes.
//
// It owns the verdict and its reports (text, JSON, JUnit, findings). It runs nothing itself: calls and the command's end are handed in.
package certify
