import software.amazon.awssdk.imds.Ec2MetadataClient;

/** Prints what the metadata client of the SDK 2.x reads of the role's credentials: it makes no calls without a token. */
public final class Client {
    public static void main(String[] arguments) {
        final String credentials = "/latest/meta-data/iam/security-credentials/";
        try (Ec2MetadataClient client = Ec2MetadataClient.create()) {
            String role = client.get(credentials).asString();
            System.out.println(client.get(credentials + role).asDocument().asMap().get("AccessKeyId").asString());
        }
    }
}
