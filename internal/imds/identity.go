package imds

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base32"
	"encoding/base64"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"time"
)

// identity signs the identity document as AWS would, with a key and a certificate that are made for the run: whoever checks a
// signature against AWS's certificates finds that it is none of theirs, and the certificate says so.
type identity struct {
	once sync.Once
	key  *rsa.PrivateKey
	cert []byte
	err  error
}

// identify adds dynamic/instance-identity/. On EC2 pkcs7 is signed by DSA and rsa2048 by RSA; here both are RSA with SHA-256.
func (s *Service) identify(d *node, st State) {
	document, err := identityDocument(st)
	put := func(name string, sign func(string) (string, error)) {
		d.put("2009-04-04", "instance-identity/"+name, func(request) (string, error) {
			if err != nil {
				return "", err
			}
			return sign(document)
		})
	}
	made := st.Launched
	put("document", func(doc string) (string, error) { return doc, nil })
	put("signature", func(doc string) (string, error) { return s.identity.signature(doc, made) })
	put("pkcs7", func(doc string) (string, error) { return s.identity.pkcs7(doc, made) })
	put("rsa2048", func(doc string) (string, error) { return s.identity.pkcs7(doc, made) })
}

// identityDocument is the document of the user guide's example.
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/retrieve-iid.html
func identityDocument(st State) (string, error) {
	var codes any
	if len(st.ProductCodes) > 0 {
		codes = st.ProductCodes
	}
	return spaced([]field{
		{"accountId", string(st.Account)}, {"architecture", st.Architecture}, {"availabilityZone", st.Zone}, {"billingProducts", nil},
		{"devpayProductCodes", nil}, {"marketplaceProductCodes", codes}, {"imageId", st.ImageID}, {"instanceId", st.InstanceID},
		{"instanceType", st.InstanceType}, {"kernelId", nil}, {"pendingTime", stamp(st.Launched)}, {"privateIp", st.LocalIPv4},
		{"ramdiskId", nil}, {"region", string(st.Region)}, {"version", "2017-09-30"},
	})
}

// prepare makes the key and the certificate, once.
func (i *identity) prepare(now time.Time) error {
	i.once.Do(func() {
		if i.key, i.err = rsa.GenerateKey(rand.Reader, 2048); i.err != nil {
			return
		}
		name := pkix.Name{Organization: []string{"imdsctl"}, CommonName: "stand-in of imdsctl imds serve: not a certificate of AWS"}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: name, Issuer: name, NotBefore: now.Add(-24 * time.Hour), NotAfter: now.AddDate(10, 0, 0),
		}
		i.cert, i.err = x509.CreateCertificate(rand.Reader, template, template, &i.key.PublicKey, i.key)
	})
	if i.err != nil {
		return fmt.Errorf("make the key that signs the identity document: %w", i.err)
	}
	return nil
}

func (i *identity) sign(document string, now time.Time) ([]byte, error) {
	if err := i.prepare(now); err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(document))
	return rsa.SignPKCS1v15(rand.Reader, i.key, crypto.SHA256, sum[:])
}

// signature is base64 in lines, as EC2 gives it.
func (i *identity) signature(document string, now time.Time) (string, error) {
	raw, err := i.sign(document, now)
	return lines(raw), err
}

// The parts of PKCS #7 that a signed document needs: https://www.rfc-editor.org/rfc/rfc2315
type (
	contentInfo struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue
	}
	signedData struct {
		Version      int
		Digests      []pkix.AlgorithmIdentifier `asn1:"set"`
		Content      contentInfo
		Certificates asn1.RawValue
		Signers      []signer `asn1:"set"`
	}
	signer struct {
		Version   int
		Issuer    issuer
		Digest    pkix.AlgorithmIdentifier
		Signing   pkix.AlgorithmIdentifier
		Signature []byte
	}
	issuer struct {
		Name   asn1.RawValue
		Serial *big.Int
	}
)

// pkcs7 is the document with its signature, without the lines that frame PEM, as EC2 gives it.
func (i *identity) pkcs7(document string, now time.Time) (string, error) {
	signature, err := i.sign(document, now)
	if err != nil {
		return "", err
	}
	cert, err := x509.ParseCertificate(i.cert)
	if err != nil {
		return "", err
	}
	content, err := asn1.Marshal([]byte(document))
	if err != nil {
		return "", err
	}
	sha := pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, Parameters: asn1.NullRawValue}
	rsaKey := pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}, Parameters: asn1.NullRawValue}
	data, err := asn1.Marshal(signedData{
		Version: 1, Digests: []pkix.AlgorithmIdentifier{sha},
		Content:      contentInfo{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}, within(content)},
		Certificates: within(i.cert),
		Signers: []signer{{
			Version: 1, Issuer: issuer{asn1.RawValue{FullBytes: cert.RawIssuer}, cert.SerialNumber},
			Digest: sha, Signing: rsaKey, Signature: signature,
		}},
	})
	if err != nil {
		return "", err
	}
	whole, err := asn1.Marshal(contentInfo{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}, within(data)})
	return lines(whole), err
}

// within puts DER into [0].
func within(der []byte) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: der}
}

// lines is base64 in lines of 64, without an end of line after the last.
func lines(raw []byte) string {
	var out []string
	text := base64.StdEncoding.EncodeToString(raw)
	for len(text) > 64 {
		out, text = append(out, text[:64]), text[64:]
	}
	return strings.Join(append(out, text), "\n")
}

// digest is the beginning of a hash, in the letters of AWS's ids.
func digest(s string, n int) string {
	sum := sha256.Sum256([]byte(s))
	return base32.StdEncoding.EncodeToString(sum[:])[:n]
}
