// Prints the access key id that the default chain of an SDK finds; exit code 1 where it finds none. Arguments: v2 or v3, and the
// folder of aws-sdk, or of @aws-sdk/credential-provider-node.

const [major, folder] = process.argv.slice(2);
const sdk = require(folder);

const credentials = {
  v2: () => new sdk.CredentialProviderChain().resolvePromise(),
  v3: () => sdk.defaultProvider()(),
};

credentials[major]().then(
  (found) => console.log(found.accessKeyId),
  (failure) => {
    console.error(String(failure));
    process.exitCode = 1;
  },
);
